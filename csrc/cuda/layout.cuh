// States from one layout to another.
#pragma once

#include "half.cuh"
#include "shape.h"
#include "tile.cuh"

namespace ncafast::cuda {

constexpr int layout_threads = 256, layout_cells = 32;

template <class T>
struct Layout {
  Shape shape;
  States<const T> from;
  States<T> to;
  bool adds;  // to what is there
};

// 32 cells a block, through shared memory: both sides in runs of neighbouring elements.
template <class T>
__global__ void __launch_bounds__(layout_threads) change_layout(const __grid_constant__ Layout<T> a) {
  NCAFAST_SHARED(float, cells, (most_state_channels + 1) * layout_cells);
  grid_dependency_wait();
  const Shape& s = a.shape;
  const int64_t blocks = (s.cells + layout_cells - 1) / layout_cells;
  const int64_t sample = blockIdx.x / blocks, first = (blockIdx.x - sample * blocks) * layout_cells;
  const int count = static_cast<int>(s.cells - first < layout_cells ? s.cells - first : layout_cells);
  const T* from = a.from.values + sample * a.from.sample + first * a.from.cell;
  T* to = a.to.values + sample * a.to.sample + first * a.to.cell;
  const auto over = [&](bool cells_innermost, auto move) {
    for (int i = static_cast<int>(threadIdx.x); i < count * s.channels; i += layout_threads) {
      const int cell = cells_innermost ? i % count : i / s.channels, c = cells_innermost ? i / count : i % s.channels;
      move(cell, c, cells[cell * (most_state_channels + 1) + c]);
    }
  };
  over(a.from.cell == 1,
       [&](int cell, int c, float& here) { here = widened(from[cell * a.from.cell + c * a.from.channel]); });
  __syncthreads();
  over(a.to.cell == 1, [&](int cell, int c, float& here) {
    T& there = to[cell * a.to.cell + c * a.to.channel];
    there = narrowed<T>(a.adds ? widened(there) + here : here);
  });
}

}  // namespace ncafast::cuda
