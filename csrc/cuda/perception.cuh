// What cells see: rows of the perception [x?] ++ [filters] ++ [extra] in shared memory.
#pragma once

#include "tile.cuh"

namespace ncafast::cuda {

struct Sight {
  const float* tile;         // [halo_cells, channels4]
  const float* filters;      // [taps, F, channels4]
  const float* filter_bias;  // [F, channels4]
  const float* centre;       // [perception16], read where the shape is centred
  Extra<const float> extra;  // of this step
};

NCAFAST_DEVICE void fma4(float4& to, const float4& a, const float4& b) {
  to.x = fmaf(a.x, b.x, to.x);
  to.y = fmaf(a.y, b.y, to.y);
  to.z = fmaf(a.z, b.z, to.z);
  to.w = fmaf(a.w, b.w, to.w);
}

NCAFAST_DEVICE const float4& quad_at(const float* from) { return *reinterpret_cast<const float4*>(from); }

NCAFAST_DEVICE float4& quad_at(float* from) { return *reinterpret_cast<float4*>(from); }

NCAFAST_DEVICE float4 add4(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Channels c to c + 3 of C that lie side by side, 0 past the last.
NCAFAST_DEVICE float4 channels_at(const Shape& s, const float* from, int c) {
  from += c;
  if (s.channels % 4 == 0) return quad_at(from);
  return make_float4(from[0], c + 1 < s.channels ? from[1] : 0.0f, c + 2 < s.channels ? from[2] : 0.0f,
                     c + 3 < s.channels ? from[3] : 0.0f);
}

NCAFAST_DEVICE void put_channels(const Shape& s, float* to, int c, const float4& value) {
  to += c;
  if (s.channels % 4 == 0) {
    quad_at(to) = value;
    return;
  }
  to[0] = value.x;
  if (c + 1 < s.channels) to[1] = value.y;
  if (c + 2 < s.channels) to[2] = value.z;
  if (c + 3 < s.channels) to[3] = value.w;
}

// Four channels of a row, beginning with `channel` of C, in columns from `column` on.
template <class P>
NCAFAST_DEVICE void put_quad(const Shape& s, float* row, int column, int channel, float4 value, const float* centre) {
  const float given[4] = {value.x, value.y, value.z, value.w};
  float out[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    out[i] = P::rounded(s.centred && channel + i < s.channels ? given[i] - centre[column + i] : given[i]);
  if (s.channels % 4 == 0) {
    quad_at(row + column) = make_float4(out[0], out[1], out[2], out[3]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (channel + i < s.channels) row[column + i] = out[i];
}

// `together` filters from `filter` on, of four channels of a few cells, which share the loads of the filters.
template <class P, int together, int cells_together>
NCAFAST_DEVICE void see_filters(const Shape& s, const Sight& sight, const int (&place)[cells_together],
                                const int (&row)[cells_together], int filter, int quad, float* y) {
  const int c = 4 * quad;
  float4 sum[together][cells_together];
#pragma unroll
  for (int f = 0; f < together; ++f)
#pragma unroll
    for (int j = 0; j < cells_together; ++j) sum[f][j] = quad_at(sight.filter_bias + (filter + f) * s.channels4 + c);
  const float* weights = sight.filters + filter * s.channels4 + c;
  for (int z = 0; z < s.kernel[0]; ++z)
    for (int line = 0; line < s.kernel[1]; ++line) {
      const int shift = ((z - s.radius[0]) * s.halo[1] + line - s.radius[1]) * s.halo[2] - s.radius[2];
      for (int x = 0; x < s.kernel[2]; ++x) {
        float4 weight[together];
#pragma unroll
        for (int f = 0; f < together; ++f) weight[f] = quad_at(weights + f * s.channels4);
        weights += s.filters * s.channels4;
#pragma unroll
        for (int j = 0; j < cells_together; ++j) {
          const float4 value = quad_at(sight.tile + (place[j] + shift + x) * s.channels4 + c);
#pragma unroll
          for (int f = 0; f < together; ++f) fma4(sum[f][j], weight[f], value);
        }
      }
    }
#pragma unroll
  for (int f = 0; f < together; ++f)
#pragma unroll
    for (int j = 0; j < cells_together; ++j)
      if (row[j] >= 0)
        put_quad<P>(s, y + row[j] * s.perception_row, s.own + (filter + f) * s.channels + c, c, sum[f][j],
                    sight.centre);
}

// Rows [0, rows) of y [rows, perception_row]: what the cells list[0], list[1], ... of the box see, less the centre
// where there is one, rounded as products want it. Columns past the perception are left alone. A thread takes
// `cells_together` cells at a time: as many as there are for it.
template <class P, int cells_together>
NCAFAST_DEVICE void see(const Shape& s, const Sight& sight, const Tile& tile, const uint16_t* list, int rows,
                        float* y) {
  const int quads = s.channels4 / 4, thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int stride = threads / quads, quad = thread % quads;
  for (int first = thread / quads; first < rows && thread < stride * quads; first += cells_together * stride) {
    int place[cells_together], row[cells_together];
#pragma unroll
    for (int j = 0; j < cells_together; ++j) {
      const int r = first + j * stride;
      row[j] = r < rows ? r : -1;
      place[j] = box_cell(s, tile, list[r < rows ? r : first]).halo_place;
    }
    if (s.own > 0) {
#pragma unroll
      for (int j = 0; j < cells_together; ++j)
        if (row[j] >= 0)
          put_quad<P>(s, y + row[j] * s.perception_row, 4 * quad, 4 * quad,
                      quad_at(sight.tile + place[j] * s.channels4 + 4 * quad), sight.centre);
    }
    int filter = 0;
    for (; filter + 2 <= s.filters; filter += 2)
      see_filters<P, 2, cells_together>(s, sight, place, row, filter, quad, y);
    if (filter < s.filters) see_filters<P, 1, cells_together>(s, sight, place, row, filter, quad, y);
  }
  for (int i = thread; i < rows * s.extra; i += threads) {
    const int row = i / s.extra, e = i - row * s.extra, column = s.perception - s.extra + e;
    const int64_t cell = box_cell(s, tile, list[row]).cell;
    const int64_t x = cell % s.size[2], line = cell / s.size[2];
    const int64_t at = tile.sample * sight.extra.sample_stride + e * sight.extra.channel_stride +
                       line / s.size[1] * sight.extra.axis_stride[0] + line % s.size[1] * sight.extra.axis_stride[1] +
                       x * sight.extra.axis_stride[2];
    const float value = sight.extra.values[at];
    y[row * s.perception_row + column] = P::rounded(s.centred ? value - sight.centre[column] : value);
  }
}

// Columns past the perception, which `see` leaves alone and products read.
NCAFAST_DEVICE void clear_padding(const Shape& s, int rows, float* y) {
  const int width = s.perception_row - s.perception;
  for (int i = static_cast<int>(threadIdx.x); i < rows * width; i += static_cast<int>(blockDim.x))
    y[i / width * s.perception_row + s.perception + i % width] = 0.0f;
}

// Zeros in rows [from, to) of y.
NCAFAST_DEVICE void clear_rows(const Shape& s, int from, int to, float* y) {
  for (int i = from * s.perception_row + static_cast<int>(threadIdx.x); i < to * s.perception_row;
       i += static_cast<int>(blockDim.x))
    y[i] = 0.0f;
}

}  // namespace ncafast::cuda
