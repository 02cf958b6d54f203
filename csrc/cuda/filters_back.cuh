// Gradients of the filters: for every tap, filter and channel the sum over cells of dL/dy times what the tap showed.
//
// A thread owns a row of taps along the last axis, of one filter and four channels, and walks along lines of cells with
// the states under that row in registers: one of them and one dL/dy are loaded for as many products as the row is long.
#pragma once

#include "arena.h"
#include "perception.cuh"

namespace ncafast::cuda {

// `From`: what load_next_tile takes.
template <class From>
struct FiltersBack {
  Shape shape;
  From x;
  const float* dy;  // [B, *S, perception16]
  float* slabs;     // [gridDim.x, groups] of [taps, F, channels4], added to
};

constexpr int filter_threads = 256;

// Rows of taps, filters and quads of channels; and how many of so many threads share one, each with lines of its own.
NCAFAST_HOST_DEVICE inline int filter_items(const Shape& s) {
  return s.kernel[0] * s.kernel[1] * s.filters * (s.channels4 / 4);
}
NCAFAST_HOST_DEVICE inline int filter_groups(const Shape& s, int threads) {
  const int items = filter_items(s), lines = s.box[0] * s.box[1];
  const int groups = items > threads ? 1 : threads / items, each = (lines + groups - 1) / groups;
  return (lines + each - 1) / each;
}
NCAFAST_HOST_DEVICE inline int filter_slab(const Shape& s) { return s.taps * s.filters * s.channels4; }

// A thread's own, the number-th of all groups' items.
struct FilterItem {
  int group, tap[2], tap_row, filter, c;
  bool works;

  NCAFAST_DEVICE FilterItem(const Shape& s, int number, int threads) {
    const int items = filter_items(s), quads = s.channels4 / 4;
    group = items > threads ? 0 : number / items;
    const int item = number - group * items;
    works = item < items && group < filter_groups(s, threads);
    c = 4 * (item % quads);
    filter = item / quads % s.filters;
    tap_row = item / quads / s.filters;
    tap[1] = tap_row % s.kernel[1];
    tap[0] = tap_row / s.kernel[1];
  }
};

// What an item has of a tile. `dy_of(z, y)` is the first cell's dL/dy of a line, `dy_row` floats before the next one's.
template <int row, class Dy>
NCAFAST_DEVICE void over_lines(const Shape& s, const FilterItem& item, const Tile& tile, int groups,
                               const float* tile_states, int dy_row, Dy dy_of, float4 (&sum)[row]) {
  for (int line = item.group; line < s.box[0] * s.box[1]; line += groups) {
    const int y = line % s.box[1], z = line / s.box[1];
    if (tile.origin[0] + z >= s.size[0] || tile.origin[1] + y >= s.size[1]) continue;
    const int left = s.size[2] - tile.origin[2], cells = left < s.box[2] ? left : s.box[2];
    const float* dy = dy_of(z, y) + s.own + item.filter * s.channels;
    const float* states =
        tile_states + ((z + item.tap[0]) * s.halo[1] + y + item.tap[1]) * s.halo[2] * s.channels4 + item.c;
    float4 under[row];
#pragma unroll
    for (int j = 1; j < row; ++j) under[j] = quad_at(states + (j - 1) * s.channels4);
    states += (row - 1) * s.channels4;
    for (int x = 0; x < cells; ++x, dy += dy_row, states += s.channels4) {
#pragma unroll
      for (int j = 0; j + 1 < row; ++j) under[j] = under[j + 1];
      under[row - 1] = quad_at(states);
      const float4 value = channels_at(s, dy, item.c);
#pragma unroll
      for (int j = 0; j < row; ++j) fma4(sum[j], value, under[j]);
    }
  }
}

template <int row>
NCAFAST_DEVICE void add_to_slab(const Shape& s, const FilterItem& item, const float4 (&sum)[row], float* slab) {
#pragma unroll
  for (int j = 0; j < row; ++j) {
    float4& there = quad_at(slab + ((item.tap_row * row + j) * s.filters + item.filter) * s.channels4 + item.c);
    there = add4(there, sum[j]);
  }
}

struct FilterMemory {
  float* tile;
  int* shown;

  NCAFAST_HOST_DEVICE FilterMemory(const Shape& s, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    shown = arena.take<int>(shown_parts(s));
  }
};

template <int row, class From>
__global__ void __launch_bounds__(filter_threads, 2) filters_back(const __grid_constant__ FiltersBack<From> a) {
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const FilterMemory m(s, arena);
  grid_dependency_wait();
  const int groups = filter_groups(s, filter_threads);
  const FilterItem item(s, static_cast<int>(blockIdx.y * filter_threads + threadIdx.x), filter_threads);
  float4 sum[row];
#pragma unroll
  for (int j = 0; j < row; ++j) sum[j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t, bool follows) {
    load_next_tile(s, a.x, tile, m.shown, follows, m.tile);
    copy_async_wait();
    __syncthreads();
    if (!item.works) return;
    const auto dy_of = [&](int z, int y) {
      const int at[3] = {tile.origin[0] + z, tile.origin[1] + y, tile.origin[2]};
      return a.dy + (tile.sample * s.cells + cell_number(s, at)) * s.perception16;
    };
    over_lines(s, item, tile, groups, m.tile, s.perception16, dy_of, sum);
  });
  if (!item.works) return;
  add_to_slab(s, item, sum, a.slabs + (static_cast<int64_t>(blockIdx.x) * groups + item.group) * filter_slab(s));
}

// Adds what a tile has in shared memory to this block's slabs [groups]; rows of dL/dy are those of the tile's cells in
// ascending order.
template <int row>
NCAFAST_DEVICE void add_filter_rows(const Shape& s, const Tile& tile, const float* dy, const float* states,
                                    float* slabs) {
  const int threads = static_cast<int>(blockDim.x), items = filter_items(s), groups = filter_groups(s, threads);
  const int lines = s.size[1] - tile.origin[1] < s.box[1] ? s.size[1] - tile.origin[1] : s.box[1];
  const int cells = s.size[2] - tile.origin[2] < s.box[2] ? s.size[2] - tile.origin[2] : s.box[2];
  slabs += static_cast<int64_t>(blockIdx.x) * groups * filter_slab(s);
  for (int first = 0; first < items; first += threads) {
    const FilterItem item(s, first + static_cast<int>(threadIdx.x), threads);
    if (!item.works) continue;
    float4 sum[row];
#pragma unroll
    for (int j = 0; j < row; ++j) sum[j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    over_lines(
        s, item, tile, groups, states, s.perception_row,
        [&](int z, int y) { return dy + (z * lines + y) * cells * s.perception_row; }, sum);
    add_to_slab(s, item, sum, slabs + item.group * filter_slab(s));
  }
}

NCAFAST_DEVICE void add_filters(const Shape& s, const Tile& tile, const float* dy, const float* states, float* slabs) {
  switch (s.kernel[2]) {
    case 1:
      return add_filter_rows<1>(s, tile, dy, states, slabs);
    case 3:
      return add_filter_rows<3>(s, tile, dy, states, slabs);
    case 5:
      return add_filter_rows<5>(s, tile, dy, states, slabs);
    default:
      return add_filter_rows<7>(s, tile, dy, states, slabs);
  }
}

}  // namespace ncafast::cuda
