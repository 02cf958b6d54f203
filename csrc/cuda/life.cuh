// The alive mask: which cells live before and after a step, and the settling of what the step left.
#pragma once

#include "half.cuh"
#include "tile.cuh"

namespace ncafast::cuda {

struct Life {
  Alive alive;
  int window[3];            // cells per axis
  uint8_t *before, *lives;  // [B, *S]: cells that live before the step, where alive.pre, and after it
  int64_t lives_step;       // from one step's `lives` to the next one's
};

constexpr int life_threads = 256;

// Whether cells far from living ones take no step.
NCAFAST_DEVICE bool skips_dead(const Shape& s, const Life& life) { return s.settles && life.alive.pre; }

// Calls look(place in the grid) for every cell of the window that the grid has.
template <class Look>
NCAFAST_DEVICE void over_window(const Shape& s, const int (&window)[3], const int (&at)[3], Look look) {
  int low[3], high[3], there[3];
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const int reach = window[a] / 2;
    low[a] = at[a] - reach < 0 ? 0 : at[a] - reach;
    high[a] = at[a] + reach >= s.size[a] ? s.size[a] - 1 : at[a] + reach;
  }
  for (there[0] = low[0]; there[0] <= high[0]; ++there[0])
    for (there[1] = low[1]; there[1] <= high[1]; ++there[1])
      for (there[2] = low[2]; there[2] <= high[2]; ++there[2]) look(there);
}

// Whether the largest value of the alive channel in a cell's window is above the threshold; a NaN there means no.
template <class Value>
NCAFAST_DEVICE bool window_lives(const Shape& s, const Life& life, const int (&at)[3], Value value_at) {
  bool lives = false, broken = false;
  over_window(s, life.window, at, [&](const int (&there)[3]) {
    const float value = value_at(there);
    lives = lives || value > life.alive.threshold;
    broken = broken || value != value;
  });
  return lives && !broken;
}

// Whether a living cell lies in a cell's window. Others need no step; but a dead cell next to a living one still counts
// for its neighbours' life after the step.
template <class Before>
NCAFAST_DEVICE bool near_living(const Shape& s, const Life& life, const int (&at)[3], Before before_at) {
  bool found = false;
  over_window(s, life.window, at, [&](const int (&there)[3]) { found = found || before_at(there); });
  return found;
}

// A channel after the step: raw where the cell lives, else 0 (NaN stays); the restored ones as before the step.
NCAFAST_DEVICE float settled(const Shape& s, int c, float before, float raw, bool lives) {
  return restored(s, c) ? before : lives ? raw : raw * 0.0f;
}

// ---- states in device memory, by the cell's number in the batch; one thread a cell

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

template <class T>
NCAFAST_DEVICE bool lives_in(const Shape& s, const Life& life, const States<const T>& x, const Cell& cell) {
  const T* from = x.values + cell.sample * x.sample + life.alive.channel * x.channel;
  return window_lives(s, life, cell.at,
                      [&](const int (&there)[3]) { return widened(from[cell_number(s, there) * x.cell]); });
}

// Calls work(number) for all cells, shared out among the threads of the launch.
template <class Work>
NCAFAST_DEVICE void each_cell(const Shape& s, Work work) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < s.cells * s.batch; i += stride)
    work(i);
}

// Which cells of a state live, into `before`.
template <class T>
NCAFAST_DEVICE void mark_living(const Shape& s, const Life& life, const States<const T>& x) {
  each_cell(s, [&](int64_t number) { life.before[number] = lives_in(s, life, x, cell_at(s, number)); });
}

// `lives` [B, *S] and out, from the state before the step and as the step left it.
template <class T>
NCAFAST_DEVICE void settle_all(const Shape& s, const Life& life, const States<const T>& x, const States<const T>& raw,
                               const States<T>& out, uint8_t* lives) {
  each_cell(s, [&](int64_t number) {
    const Cell cell = cell_at(s, number);
    const bool alive = (!life.alive.pre || life.before[number]) && (!life.alive.post || lives_in(s, life, raw, cell));
    lives[number] = alive;
    const T* from = x.values + cell.sample * x.sample + cell.local * x.cell;
    const T* left = raw.values + cell.sample * raw.sample + cell.local * raw.cell;
    T* to = out.values + cell.sample * out.sample + cell.local * out.cell;
    for (int c = 0; c < s.channels; ++c)
      to[c * out.channel] =
          narrowed<T>(settled(s, c, widened(from[c * x.channel]), widened(left[c * raw.channel]), alive));
  });
}

// ---- the same as kernels, around a step of a launch of its own

template <class T>
struct LifePass {
  Shape shape;
  Life life;
  States<const T> x, raw;
  States<T> out;
};

template <class T>
__global__ void __launch_bounds__(life_threads) living(const __grid_constant__ LifePass<T> a) {
  grid_dependency_wait();
  mark_living(a.shape, a.life, a.x);
}

template <class T>
__global__ void __launch_bounds__(life_threads) settle(const __grid_constant__ LifePass<T> a) {
  grid_dependency_wait();
  settle_all(a.shape, a.life, a.x, a.raw, a.out, a.life.lives);
}

}  // namespace ncafast::cuda
