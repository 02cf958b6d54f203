// The alive mask: which cells live before and after a step, and the settling of what the step left.
#pragma once

#include "tile.cuh"

namespace ncafast::cuda {

struct Life {
  Shape shape;
  Alive alive;
  int window[3];            // cells per axis
  States<const float> x;    // the state before
  States<const float> raw;  // and as the step left it
  States<float> out;
  uint8_t *before, *near, *lives;  // [B, *S]; before and near where alive.pre
};

constexpr int life_threads = 256;

struct Cell {
  int64_t sample, local;
  int at[3];
};

NCAFAST_DEVICE Cell cell_at(const Shape& s, int64_t number) {
  Cell c;
  c.sample = number / s.cells;
  c.local = number - c.sample * s.cells;
  const int64_t line = c.local / s.size[2];
  c.at[2] = static_cast<int>(c.local - line * s.size[2]);
  c.at[1] = static_cast<int>(line % s.size[1]);
  c.at[0] = static_cast<int>(line / s.size[1]);
  return c;
}

// Calls look(cell of the sample) for every cell of the window that the grid has.
template <class Look>
NCAFAST_DEVICE void over_window(const Shape& s, const int (&window)[3], const Cell& cell, Look look) {
  int low[3], high[3];
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const int reach = window[a] / 2;
    low[a] = cell.at[a] - reach < 0 ? 0 : cell.at[a] - reach;
    high[a] = cell.at[a] + reach >= s.size[a] ? s.size[a] - 1 : cell.at[a] + reach;
  }
  for (int z = low[0]; z <= high[0]; ++z)
    for (int y = low[1]; y <= high[1]; ++y)
      for (int x = low[2]; x <= high[2]; ++x) look((static_cast<int64_t>(z) * s.size[1] + y) * s.size[2] + x);
}

// Whether the largest value of the alive channel in a cell's window is above the threshold; a NaN there means no.
NCAFAST_DEVICE bool window_lives(const Life& a, const States<const float>& x, const Cell& cell) {
  const float* from = x.values + cell.sample * x.sample + a.alive.channel * x.channel;
  bool lives = false, broken = false;
  over_window(a.shape, a.window, cell, [&](int64_t local) {
    const float value = from[local * x.cell];
    lives = lives || value > a.alive.threshold;
    broken = broken || value != value;
  });
  return lives && !broken;
}

// Which cells of a state live.
inline __global__ void __launch_bounds__(life_threads) living(const __grid_constant__ Life a) {
  grid_dependency_wait();
  const int64_t number = static_cast<int64_t>(blockIdx.x) * life_threads + threadIdx.x;
  if (number < a.shape.cells * a.shape.batch) a.before[number] = window_lives(a, a.x, cell_at(a.shape, number));
}

// Cells with a living one in their window: a dead cell still counts for its neighbours' life after the step.
inline __global__ void __launch_bounds__(life_threads) grow(const __grid_constant__ Life a) {
  grid_dependency_wait();
  const int64_t number = static_cast<int64_t>(blockIdx.x) * life_threads + threadIdx.x;
  if (number >= a.shape.cells * a.shape.batch) return;
  const Cell cell = cell_at(a.shape, number);
  const uint8_t* from = a.before + cell.sample * a.shape.cells;
  uint8_t found = 0;
  over_window(a.shape, a.window, cell, [&](int64_t local) { found |= from[local]; });
  a.near[number] = found;
}

// out: raw where cells live, else 0; restored channels as in x.
inline __global__ void __launch_bounds__(life_threads) settle(const __grid_constant__ Life a) {
  grid_dependency_wait();
  const Shape& s = a.shape;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * life_threads + threadIdx.x;
  if (number >= s.cells * s.batch) return;
  const Cell cell = cell_at(s, number);
  const bool alive = (!a.alive.pre || a.before[number]) && (!a.alive.post || window_lives(a, a.raw, cell));
  a.lives[number] = alive;
  const float* x = a.x.values + cell.sample * a.x.sample + cell.local * a.x.cell;
  const float* raw = a.raw.values + cell.sample * a.raw.sample + cell.local * a.raw.cell;
  float* out = a.out.values + cell.sample * a.out.sample + cell.local * a.out.cell;
  for (int c = 0; c < s.channels; ++c) {
    const float value = raw[c * a.raw.channel];
    out[c * a.out.channel] = restored(s, c) ? x[c * a.x.channel] : alive ? value : value * 0.0f;
  }
}

}  // namespace ncafast::cuda
