// The transposed perception on the chip (K2b within K2a): accumulates dL/dx of a tile and its halo in shared memory.
//
// A block adds it up in shared memory, for the tile and what lies around it. Sums of the tile's own cells complete
// dL/dx in place; those around go to `border`, from which the block of the tile that has the cell takes them in the
// next step: no cell is computed twice, and every sum has one order.
//
// Bytes per cell and step at C = 16, P = 48, H = 128, 3 x 3, tiles of 8 x 16 with 52 places around their 128 cells:
//   640 with dL/dy through memory: x 64, dL/dx_(t+1) 64, dL/dy 192, and again 192, 64, and dL/dx_t 64
//   192 with dL/dy computed again around a tile: x, dL/dx_(t+1), dL/dx_t; but the products other than the weights'
//       gradients, 28.7 of 45.1 kFLOP, on 41 % more cells: 26 % more of what the kernel spends its time on
//   288 so: those 192, the border 26 and 26, dL/dx where borders are added 22 and 22; 0.6 kFLOP in either kernel
// In 3-D, 3^3 at C = 16, P = 32, H = 64, 232 places lie around the 128 cells of 4 x 4 x 8: 512, 192 with 113 % more
// products, and 528. Which way is taken is decided in backward.cu. By count, unverified on hardware.
#pragma once

#include "perception.cuh"

namespace ncafast::cuda {

// [tiles, halo_cells, channels4] each; `from` is null where nothing has been left yet.
struct Border {
  const float* from;
  float* to;
};

// Floats from one place to the next: 4 times an odd number, so that the lanes of a warp, each at a place of its own,
// touch different banks.
NCAFAST_HOST_DEVICE inline int pushed_row(const Shape& s) { return s.channels4 | 4; }

NCAFAST_DEVICE void clear_pushed(const Shape& s, float* pushed) {
  const int count = s.halo_cells * pushed_row(s);
  for (int i = 4 * static_cast<int>(threadIdx.x); i < count; i += 4 * static_cast<int>(blockDim.x))
    quad_at(pushed + i) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

// One row's share of `together` filters from `filter` on, in channels from c on. To be called by whole warps.
template <int together>
NCAFAST_DEVICE void push_filters(const Shape& s, bool there, const float* dy, const float* filters, int filter, int c,
                                 float* pushed) {
  const int row = pushed_row(s);
  float4 value[together];
#pragma unroll
  for (int f = 0; f < together; ++f)
    value[f] = there ? channels_at(s, dy + s.own + (filter + f) * s.channels, c) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const float* weights = filters + filter * s.channels4 + c;
  for (int z = 0; z < s.kernel[0]; ++z)
    for (int line = 0; line < s.kernel[1]; ++line) {
      float* to = pushed + (((z - s.radius[0]) * s.halo[1] + line - s.radius[1]) * s.halo[2] - s.radius[2]) * row + c;
      for (int x = 0; x < s.kernel[2]; ++x, to += row, weights += s.filters * s.channels4) {
        if (there) {
          float4 sum = quad_at(to);
#pragma unroll
          for (int f = 0; f < together; ++f) fma4(sum, quad_at(weights + f * s.channels4), value[f]);
          quad_at(to) = sum;
        }
        __syncwarp();  // the next tap of a lane may be this tap of another
      }
    }
}

// Adds what `rows` rows of dL/dy say, at most as many as a warp has lanes. Four channels belong to one warp, a row to
// one of its lanes.
NCAFAST_DEVICE void push(const Shape& s, const uint16_t* list, int rows, const float* dy, const float* filters,
                         float* pushed) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const bool there = lane < rows;
  dy += lane * s.perception_row;
  pushed += (there ? list[lane] : 0) * pushed_row(s);
  for (int c = 4 * warp; c < s.channels4; c += 4 * warps) {
    if (there && s.own > 0) quad_at(pushed + c) = add4(quad_at(pushed + c), channels_at(s, dy, c));
    __syncwarp();
    int filter = 0;
    for (; filter + 4 <= s.filters; filter += 4) push_filters<4>(s, there, dy, filters, filter, c, pushed);
    for (; filter + 2 <= s.filters; filter += 2) push_filters<2>(s, there, dy, filters, filter, c, pushed);
    if (filter < s.filters) push_filters<1>(s, there, dy, filters, filter, c, pushed);
  }
}

// The cell of the grid at a place of the tile or around it where it is the tile's own; negative: it is not.
NCAFAST_DEVICE int own_cell(const Shape& s, const Tile& tile, int halo_place) {
  int at[3];
  halo_cell(s, halo_place, at);
  bool own = true;
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    own = own && at[a] >= 0 && at[a] < s.box[a];
    at[a] += tile.origin[a];
    own = own && at[a] < s.size[a];
  }
  return own ? cell_number(s, at) : -1;
}

// What a cell's dL/d(next state) says of its state directly, in channels c to c + 3: nothing where it did not live.
NCAFAST_DEVICE float4 passed(const Shape& s, const uint8_t* lives, int64_t cell, const float* g, int c) {
  float4 value = channels_at(s, g, c);
  if (!lives || lives[cell]) return value;
  if (!restored(s, c)) value.x = 0.0f;
  if (!restored(s, c + 1)) value.y = 0.0f;
  if (!restored(s, c + 2)) value.z = 0.0f;
  if (!restored(s, c + 3)) value.w = 0.0f;
  return value;
}

// dL/dx [B, *S, C] of the tile's cells from dL/d(next state), in its place, and the border. `lives` as in
// PerceptionBackward.
NCAFAST_DEVICE void write_pushed(const Shape& s, const Tile& tile, int64_t number, const float* pushed,
                                 const uint8_t* lives, float* dx, float* border) {
  const int quads = s.channels4 / 4;
  border += number * s.halo_cells * s.channels4;
  for (int i = static_cast<int>(threadIdx.x); i < s.halo_cells * quads; i += static_cast<int>(blockDim.x)) {
    const int place = s.by_quads(i), c = 4 * (i - place * quads);
    const float4 sum = quad_at(pushed + place * pushed_row(s) + c);
    const int cell = own_cell(s, tile, place);
    if (cell < 0) {
      quad_at(border + place * s.channels4 + c) = sum;
    } else {
      const int64_t index = tile.sample * s.cells + cell;
      float* to = dx + index * s.channels;
      put_channels(s, to, c, add4(passed(s, lives, index, to, c), sum));
    }
  }
}

// Places along an axis where a padding may show the same cell: the cell's own, then those past the edges.
NCAFAST_DEVICE int places(const Shape& s, int axis) { return s.padding == Padding::zeros ? 1 : 1 + 2 * s.radius[axis]; }

// The number-th of them, if it shows cell n.
NCAFAST_DEVICE bool shows(const Shape& s, int axis, int n, int number, int& place) {
  const int size = s.size[axis];
  place = number == 0 ? n : number % 2 ? -(number + 1) / 2 : size - 1 + number / 2;
  return number == 0 || along(place, size, s.padding) == n;
}

// Tiles along an axis that a place lies in or around.
NCAFAST_DEVICE int first_tile(const Shape& s, int axis, int place) {
  return place > s.radius[axis] ? s.by_box[axis](place - s.radius[axis]) : 0;
}
NCAFAST_DEVICE int last_tile(const Shape& s, int axis, int place) {
  const int last = s.by_box[axis](place + s.radius[axis]);
  return last < s.tiles[axis] ? last : s.tiles[axis] - 1;
}

NCAFAST_DEVICE int64_t tile_number(const Shape& s, int64_t sample, int z, int y, int x) {
  return sample * s.sample_tiles + (z * s.tiles[1] + y) * s.tiles[2] + x;
}

// Adds to dL/dx of a cell what the blocks of all tiles around a place have left there, but for the tile's own block
// where the place is the cell's own.
NCAFAST_DEVICE void collect_at(const Shape& s, const Tile& tile, const int (&place)[3], bool own, const float* border,
                               float* to) {
  for (int z = first_tile(s, 0, place[0]); z <= last_tile(s, 0, place[0]); ++z)
    for (int y = first_tile(s, 1, place[1]); y <= last_tile(s, 1, place[1]); ++y)
      for (int x = first_tile(s, 2, place[2]); x <= last_tile(s, 2, place[2]); ++x) {
        const int origin[3] = {z * s.box[0], y * s.box[1], x * s.box[2]};
        if (own && origin[0] == tile.origin[0] && origin[1] == tile.origin[1] && origin[2] == tile.origin[2]) continue;
        int64_t at = tile_number(s, tile.sample, z, y, x);
#pragma unroll
        for (int a = 0; a < 3; ++a) at = at * s.halo[a] + place[a] + s.radius[a] - origin[a];
        const float* from = border + at * s.channels4;
        for (int c = 0; c < s.channels; c += 4)
          put_channels(s, to, c, add4(channels_at(s, to, c), channels_at(s, from, c)));
      }
}

// Adds to dL/dx of the tile's cells what blocks have left for them at the border.
NCAFAST_DEVICE void collect(const Shape& s, const Tile& tile, const float* border, float* dx) {
  for (int number = static_cast<int>(threadIdx.x); number < s.box_cells; number += static_cast<int>(blockDim.x)) {
    const BoxCell cell = box_cell(s, tile, number);
    if (cell.cell < 0) continue;
    float* to = dx + (tile.sample * s.cells + cell.cell) * s.channels;
    int place[3];
    for (int i = 0; i < places(s, 0); ++i) {
      if (!shows(s, 0, cell.at[0], i, place[0])) continue;
      for (int j = 0; j < places(s, 1); ++j) {
        if (!shows(s, 1, cell.at[1], j, place[1])) continue;
        for (int k = 0; k < places(s, 2); ++k)
          if (shows(s, 2, cell.at[2], k, place[2])) collect_at(s, tile, place, i == 0 && j == 0 && k == 0, border, to);
      }
    }
  }
}

struct Collect {
  Shape shape;
  const float* border;
  float* dx;
};

constexpr int collect_threads = 128;

// What no step takes any more.
inline __global__ void __launch_bounds__(collect_threads, 4) collect_border(const __grid_constant__ Collect a) {
  grid_dependency_wait();
  for (int64_t number = blockIdx.x; number < a.shape.all_tiles; number += gridDim.x)
    collect(a.shape, tile_at(a.shape, static_cast<int>(number)), a.border, a.dx);
}

}  // namespace ncafast::cuda
