// Gradients of the filters: for every tap, filter and channel the sum over cells of dL/dy times what the tap showed.
//
// A thread owns a row of taps along the last axis, of one filter and four channels, and walks along lines of cells with
// the states under that row in registers: one of them and one dL/dy are loaded for as many products as the row is long.
#pragma once

#include "arena.h"
#include "perception.cuh"

namespace ncafast::cuda {

struct FiltersBack {
  Shape shape;
  States<const float> x;
  const float* dy;  // [B, *S, perception16]
  float* slabs;     // [gridDim.x, groups] of [taps, F, channels4], added to
};

constexpr int filter_threads = 256;

// Rows of taps, filters and quads of channels; and how many threads share one, each with lines of its own.
NCAFAST_HOST_DEVICE inline int filter_items(const Shape& s) {
  return s.kernel[0] * s.kernel[1] * s.filters * (s.channels4 / 4);
}
NCAFAST_HOST_DEVICE inline int filter_groups(const Shape& s) {
  const int items = filter_items(s), lines = s.box[0] * s.box[1];
  const int groups = items > filter_threads ? 1 : filter_threads / items;
  return groups < lines ? groups : lines;
}

struct FilterMemory {
  float* tile;
  int* shown;

  NCAFAST_HOST_DEVICE FilterMemory(const Shape& s, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    shown = arena.take<int>(shown_parts(s));
  }
};

template <int row>
__global__ void __launch_bounds__(filter_threads, 2) filters_back(const __grid_constant__ FiltersBack a) {
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const FilterMemory m(s, arena);
  grid_dependency_wait();
  const int items = filter_items(s), groups = filter_groups(s), quads = s.channels4 / 4;
  const int thread = static_cast<int>(threadIdx.x);
  const int group = items > filter_threads ? 0 : thread / items;
  const int item = static_cast<int>(blockIdx.y) * filter_threads + thread - group * items;
  const bool works = item < items && group < groups;
  const int c = 4 * (item % quads), f = item / quads % s.filters, tap_row = item / quads / s.filters;
  const int tap_y = tap_row % s.kernel[1], tap_z = tap_row / s.kernel[1];
  float4 sum[row];
#pragma unroll
  for (int j = 0; j < row; ++j) sum[j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t, bool follows) {
    load_next_tile(s, a.x, tile, m.shown, follows, m.tile);
    copy_async_wait();
    __syncthreads();
    if (!works) return;
    for (int line = group; line < s.box[0] * s.box[1]; line += groups) {
      const int y = line % s.box[1], z = line / s.box[1];
      const int gz = tile.origin[0] + z, gy = tile.origin[1] + y;
      if (gz >= s.size[0] || gy >= s.size[1]) continue;
      const int left = s.size[2] - tile.origin[2], cells = left < s.box[2] ? left : s.box[2];
      const int64_t first = ((tile.sample * s.size[0] + gz) * s.size[1] + gy) * s.size[2] + tile.origin[2];
      const float* dy = a.dy + first * s.perception16 + s.own + f * s.channels;
      const float* states = m.tile + ((z + tap_z) * s.halo[1] + y + tap_y) * s.halo[2] * s.channels4 + c;
      float4 under[row];
#pragma unroll
      for (int j = 1; j < row; ++j) under[j] = quad_at(states + (j - 1) * s.channels4);
      states += (row - 1) * s.channels4;
      for (int x = 0; x < cells; ++x, dy += s.perception16, states += s.channels4) {
#pragma unroll
        for (int j = 0; j + 1 < row; ++j) under[j] = under[j + 1];
        under[row - 1] = quad_at(states);
        const float4 value = channels_at(s, dy, c);
#pragma unroll
        for (int j = 0; j < row; ++j) fma4(sum[j], value, under[j]);
      }
    }
  });
  if (!works) return;
  const int64_t slab = int64_t{s.taps} * s.filters * s.channels4;
  float* to = a.slabs + (static_cast<int64_t>(blockIdx.x) * groups + group) * slab;
#pragma unroll
  for (int j = 0; j < row; ++j) {
    float4& there = quad_at(to + ((tap_row * row + j) * s.filters + f) * s.channels4 + c);
    there = add4(there, sum[j]);
  }
}

}  // namespace ncafast::cuda
