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

NCAFAST_DEVICE float4 subtract4(const float4& a, const float4& b) {
  return make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w);
}

template <class P>
NCAFAST_DEVICE float4 operand4(const float4& a) {
  float four[4] = {a.x, a.y, a.z, a.w};
  P::make_operands(four);
  return make_float4(four[0], four[1], four[2], four[3]);
}

// Channels c to c + 3 of a row of y, `to` their column. `whole`: there are four of them at any c.
template <class P>
NCAFAST_DEVICE void put_seen(const Shape& s, bool whole, float* to, int c, const float4& value) {
  const float4 out = operand4<P>(value);
  if (whole)
    store_shared(to, out);
  else
    put_channels(s, to - c, c, out);
}

// 3 x 3 taps and states of 16 channels are what most rules have. With both known to the compiler the places of taps are
// part of the instructions that read them: else a third of the instructions of a tap of one cell are additions.
constexpr int common_taps = 3, common_channels = 16;

// `together` filters from `filter` on, of four channels of a few cells, which share the loads of the filters.
template <class P, int together, bool common, int cells_together>
NCAFAST_DEVICE void see_filters(const Shape& s, const Sight& sight, const float* const (&seen)[cells_together],
                                float* const (&row)[cells_together], int filter, int c) {
  const int channels = common ? common_channels : s.channels, channels4 = common ? common_channels : s.channels4;
  float4 sum[together][cells_together];
#pragma unroll
  for (int f = 0; f < together; ++f) {
    float4 start = quad_at(sight.filter_bias + (filter + f) * channels4 + c);
    if (s.centred) start = subtract4(start, channels_at(s, sight.centre + s.own + (filter + f) * channels, c));
#pragma unroll
    for (int j = 0; j < cells_together; ++j) sum[f][j] = start;
  }
  const float* weights = sight.filters + filter * channels4 + c;
  const int next = s.filters * channels4, plane = s.halo[1] * s.halo[2] * channels4;
  const auto add_tap = [&](int shift, int x) {
    float4 weight[together];
#pragma unroll
    for (int f = 0; f < together; ++f) weight[f] = quad_at(weights + f * channels4);
#pragma unroll
    for (int j = 0; j < cells_together; ++j) {
      const float4 value = quad_at(seen[j] + shift + x * channels4);
#pragma unroll
      for (int f = 0; f < together; ++f) fma4(sum[f][j], weight[f], value);
    }
    weights += next;
  };
  int start = -((s.radius[0] * s.halo[1] + s.radius[1]) * s.halo[2] + s.radius[2]) * channels4;
  int z = s.kernel[0];
#pragma unroll 1
  do {  // there is at least one tap; a loop that may have none costs copies of all sums
    int line = start;
    if constexpr (common) {
#pragma unroll
      for (int y = 0; y < common_taps; ++y, line += s.halo[2] * channels4)
#pragma unroll
        for (int x = 0; x < common_taps; ++x) add_tap(line, x);
    } else {
      int y = s.kernel[1];
#pragma unroll 1
      do {
        int x = 0;
#pragma unroll 1
        do {
          add_tap(line, x);
        } while (++x < s.kernel[2]);
        line += s.halo[2] * channels4;
      } while (--y);
    }
    start += plane;
  } while (--z);
#pragma unroll
  for (int j = 0; j < cells_together; ++j) {
    float* const to = row[j] + s.own + filter * channels + c;
#pragma unroll
    for (int f = 0; f < together; ++f) put_seen<P>(s, common || s.channels % 4 == 0, to + f * channels, c, sum[f][j]);
  }
}

// Rows [0, rows) of y [rows, perception_row]: what the cells at list[0], list[1], ... of what the tile shows see, less
// the centre where there is one, rounded as operands of products. Columns past the perception are left alone. A thread
// takes `cells_together` cells at a time; where there are fewer for it, its first again.
template <class P, int cells_together>
NCAFAST_DEVICE void see(const Shape& s, const Sight& sight, const Tile& tile, const uint16_t* list, int rows,
                        float* y) {
  const QuadShare share = share_quads(s);
  const int c = share.channel;
  for (int first = share.first; first < rows; first += cells_together * share.step) {
    const float* seen[cells_together];
    float* row[cells_together];
#pragma unroll
    for (int j = 0; j < cells_together; ++j) {
      const int there = first + j * share.step, r = there < rows ? there : first;
      row[j] = y + r * s.perception_row;
      seen[j] = sight.tile + list[r] * s.channels4 + c;
    }
    if (s.own > 0) {
      float4 own[cells_together];
#pragma unroll
      for (int j = 0; j < cells_together; ++j) own[j] = quad_at(seen[j]);
      if (s.centred) {
        const float4 centre = channels_at(s, sight.centre, c);
#pragma unroll
        for (int j = 0; j < cells_together; ++j) own[j] = subtract4(own[j], centre);
      }
#pragma unroll
      for (int j = 0; j < cells_together; ++j) put_seen<P>(s, s.channels % 4 == 0, row[j] + c, c, own[j]);
    }
    int filter = 0;
    if (s.kernel[1] == common_taps && s.kernel[2] == common_taps && s.channels == common_channels) {
      for (; filter + 2 <= s.filters; filter += 2) see_filters<P, 2, true>(s, sight, seen, row, filter, c);
      if (filter < s.filters) see_filters<P, 1, true>(s, sight, seen, row, filter, c);
    } else {
      for (; filter + 2 <= s.filters; filter += 2) see_filters<P, 2, false>(s, sight, seen, row, filter, c);
      if (filter < s.filters) see_filters<P, 1, false>(s, sight, seen, row, filter, c);
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < rows * s.extra; i += static_cast<int>(blockDim.x)) {
    const int row = i / s.extra, e = i - row * s.extra, column = s.perception - s.extra + e;
    int place[3];
    halo_cell(s, list[row], place);
    int64_t at = tile.sample * sight.extra.sample_stride + e * sight.extra.channel_stride;
#pragma unroll
    for (int a = 0; a < 3; ++a) at += (tile.origin[a] + place[a]) * sight.extra.axis_stride[a];
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
