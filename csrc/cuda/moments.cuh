// Batch norm through the perception's moments: no pass over the hidden layer of cells that do not fire.
//
// With ym = mean(y) and G = mean((y - ym)(y - ym)^T) over all cells: mean_z = W1 ym + b1, var_z = rowsum((W1 G) * W1).
// The norm is folded into W1; the mean is taken off the perception itself, so that the bias cancels and the rounding of
// products goes by how far cells differ. Sums are taken about the last step's mean to keep their digits.
#pragma once

#include "active.cuh"
#include "arena.h"
#include "perception.cuh"
#include "prepare.cuh"
#include "products.cuh"
#include "reduce.cuh"

namespace ncafast::cuda {

constexpr int moment_threads = 256, moment_rows = 128;
constexpr int narrow_blocks8 = 6, wide_blocks8 = 16;  // of 8 columns of the perception that an instance has sums for

struct Moments {
  Shape shape;
  States<const float> from;
  Weights weights;
  Extra<const float> extra;
  float* slabs;  // [gridDim, groups, slab] sums of y [perception16] and of y y^T [perception16, perception16]
};

NCAFAST_HOST_DEVICE inline int moment_slab(const Shape& s) { return s.perception16 * (1 + s.perception16); }

// Warps that share the rows of a pass: each has 16 rows of the sum, which are perception16 / 16.
NCAFAST_HOST_DEVICE inline int moment_groups(const Shape& s) { return moment_threads / 32 / (s.perception16 / 16); }

struct MomentMemory {
  float *tile, *y, *filters, *filter_bias;
  int* shown;
  uint16_t* list;
  uint8_t* active;
  int* count;

  NCAFAST_HOST_DEVICE MomentMemory(const Shape& s, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    y = arena.take<float>(int64_t{moment_rows} * s.perception_row);
    filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
    filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
    shown = arena.take<int>(shown_parts(s));
    list = arena.take<uint16_t>(s.box_cells);
    active = arena.take<uint8_t>(s.box_cells);
    count = arena.take<int>(2);
  }
};

// Rounding of the perception in the moments: as in the step where that is TF32 or coarser, so that statistics match
// what the step sees.
constexpr Precision moment_precision(Precision of_step) {
  switch (of_step) {
    case Precision::tf32:
    case Precision::bf16:
      return Precision::tf32;
    case Precision::tf32x3:
    case Precision::ieee:
      return Precision::tf32x3;
  }
  unreachable();
}

// This block's sums over its tiles, into slabs [groups, slab] of its own. `m` is a MomentMemory or a StepMemory; blocks
// have moment_threads.
template <Precision precision, int most_blocks8, class Memory>
NCAFAST_DEVICE void sum_tiles(const Shape& s, const Memory& m, const Sight& sight, const States<const float>& from,
                              float* slabs) {
  using P = Product<precision>;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int slices = s.perception16 / 16, groups = moment_groups(s), slice = warp % slices, group = warp / slices;
  float second[most_blocks8][4] = {}, once = 0.0f;
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t, bool follows) {
    load_next_tile(s, from, tile, m.shown, follows, m.tile);
    list_all(s, tile, m.list, m.active, m.count);
    copy_async_wait();
    const int count = *m.count;
    for (int first = 0; first < count; first += moment_rows) {
      __syncthreads();
      const int rows = count - first < moment_rows ? count - first : moment_rows;
      see<P, 2>(s, sight, tile, m.list + first, rows, m.y);
      clear_rows(s, rows, moment_rows, m.y);
      __syncthreads();
      if (thread < s.perception)
        for (int row = 0; row < rows; ++row) once += P::read(m.y[row * s.perception_row + thread]);
      if (group >= groups) continue;
#pragma unroll 1
      for (int row = group * P::k; row < rows; row += groups * P::k) {
        const float* y = m.y + row * s.perception_row;
        const auto left = P::template left<Order::paired>(ByTerm{y + 16 * slice, s.perception_row});
#pragma unroll
        for (int n = 0; n < most_blocks8; ++n)
          if (8 * n < s.perception16)
            P::add(second[n], left, P::template right<Order::paired>(ByTerm{y + 8 * n, s.perception_row}));
      }
    }
  });
  // `once` goes to the first group's slab; the other groups' have zeros there.
  slabs += static_cast<int64_t>(blockIdx.x) * groups * moment_slab(s);
  for (int i = thread; i < groups * s.perception16; i += moment_threads)
    slabs[i / s.perception16 * moment_slab(s) + i % s.perception16] = i == thread && i < s.perception ? once : 0.0f;
  if (group >= groups) return;
  float* to = slabs + group * moment_slab(s) + s.perception16;
#pragma unroll
  for (int n = 0; n < most_blocks8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (8 * n < s.perception16)
        to[(16 * slice + lane_g() + i / 2 * 8) * s.perception16 + 8 * n + 2 * lane_t() + i % 2] = second[n][i];
}

template <Precision precision, int most_blocks8>
__global__ void __launch_bounds__(moment_threads, most_blocks8 > narrow_blocks8 ? 1 : 2)
    sum_moments(const __grid_constant__ Moments a) {
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const MomentMemory m(s, arena);
  clear_padding(s, moment_rows, m.y);
  grid_dependency_wait();
  load_array(m.filters, a.weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, a.weights.filter_bias, s.filters * s.channels4);
  sum_tiles<precision, most_blocks8>(s, m, Sight{m.tile, m.filters, m.filter_bias, a.weights.centre, a.extra}, a.from,
                                     a.slabs);
}

// Mean [P] and central second moment [P, P] from the sums about `centre`, which becomes the mean; by all threads of the
// launch.
NCAFAST_DEVICE void finish_all(const Shape& s, const float* sums, float* centre, float* mean, float* moment) {
  const int first = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  const float number = 1.0f / (static_cast<float>(s.cells) * static_cast<float>(s.batch));
  const int P = s.perception, row = s.perception16;
  for (int i = first; i < P * P; i += stride) {
    const int p = i / P, q = i % P;
    moment[i] = sums[row + p * row + q] * number - sums[p] * number * (sums[q] * number);
  }
  for (int p = first; p < P; p += stride) mean[p] = centre[p] = centre[p] + sums[p] * number;
}

struct FinishMoments {
  Shape shape;
  const float* sums;  // a slab
  float *centre, *mean, *moment;
};

inline __global__ void __launch_bounds__(256) finish_moments(const __grid_constant__ FinishMoments a) {
  grid_dependency_wait();
  finish_all(a.shape, a.sums, a.centre, a.mean, a.moment);
}

// What folding reads besides the moments.
struct Folding {
  bool to_tf32;
  float eps;
  Layer<const float> layer;
};

// By one warp: the mean and variance of hidden unit h, into stats [2, H], and its folded weights.
NCAFAST_DEVICE void fold_unit(const Shape& s, const Folding& a, const Weights& weights, const float* mean_y,
                              const float* moment, float* stats, int h) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool there = h < s.hidden;
  const float* w = a.layer.weight + (there ? h : 0) * s.perception;
  float mean = 0.0f, var = 0.0f;
  for (int i = lane; i < s.perception; i += 32) {
    float along = 0.0f;
    for (int j = 0; j < s.perception; ++j) along = fmaf(moment[j * s.perception + i], w[j], along);
    mean = fmaf(w[i], mean_y[i], mean);
    var = fmaf(w[i], along, var);
  }
#pragma unroll
  for (int far = 16; far > 0; far /= 2) {
    mean += __shfl_xor_sync(0xffffffffu, mean, far);
    var += __shfl_xor_sync(0xffffffffu, var, far);
  }
  var = var < 0.0f ? 0.0f : var;
  float scale = 0.0f;
  if (there) {
    scale = (a.layer.norm_weight ? a.layer.norm_weight[h] : 1.0f) / sqrtf(var + a.eps);
    if (lane == 0) {
      stats[h] = mean + a.layer.bias[h];
      stats[s.hidden + h] = var;
    }
  }
  if (lane == 0) weights.first_bias[h] = there && a.layer.norm_bias ? a.layer.norm_bias[h] : 0.0f;
  for (int p = lane; p < s.perception_row; p += 32)
    weights.first[h * s.perception_row + p] = there && p < s.perception ? rounded_if(a.to_tf32, scale * w[p]) : 0.0f;
}

struct FoldNorm {
  Shape shape;
  Folding folding;
  Weights weights;
  const float *mean, *moment;  // [P], [P, P]
  float* stats;                // [2, H]
};

constexpr int fold_warps = 4;

inline __global__ void __launch_bounds__(32 * fold_warps) fold_norm(const __grid_constant__ FoldNorm a) {
  const Shape& s = a.shape;
  grid_dependency_wait();
  // This step's mean is the centre also where a step is done again from the tape.
  if (blockIdx.x == 0)
    for (int p = static_cast<int>(threadIdx.x); p < s.perception; p += 32 * fold_warps) a.weights.centre[p] = a.mean[p];
  fold_unit(s, a.folding, a.weights, a.mean, a.moment, a.stats,
            static_cast<int>(blockIdx.x) * fold_warps + static_cast<int>(threadIdx.x) / 32);
}

// ---- all of it before each step of a launch that does all steps

struct Norming {
  Folding folding;
  float *slabs, *sums;
  float *mean, *moment, *stats;  // of the first step
  int64_t tape_step;             // floats from one step's mean and moment to the next one's
};

// Leaves the norm of step t folded in `weights`, of a narrow perception. `parts` as in reduce_all.
template <Precision precision, class Memory>
NCAFAST_DEVICE void norm_step(const Shape& s, const Memory& m, const Sight& sight, const States<const float>& from,
                              const Weights& weights, const Norming& n, int64_t t, float* parts) {
  const int slab = moment_slab(s), warps = static_cast<int>(blockDim.x) / 32;
  float *mean = n.mean + t * n.tape_step, *moment = n.moment + t * n.tape_step;
  // Before the first step no mean is known to sum about.
#pragma unroll 1
  for (int round = t == 0 ? 0 : 1; round < 2; ++round) {
    sum_tiles<moment_precision(precision), narrow_blocks8>(s, m, sight, from, n.slabs);
    grid_sync();
    reduce_all(n.slabs, static_cast<int>(gridDim.x) * moment_groups(s), slab, slab, n.sums, parts);
    grid_sync();
    finish_all(s, n.sums, weights.centre, mean, moment);
    grid_sync();
  }
  for (int h = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32; h < s.hidden32;
       h += static_cast<int>(gridDim.x) * warps)
    fold_unit(s, n.folding, weights, mean, moment, n.stats + 2 * t * s.hidden, h);
  grid_sync();
}

}  // namespace ncafast::cuda
