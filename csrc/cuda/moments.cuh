// The perception's moments under batch norm: no pass over the hidden layer of cells that do not fire.
//
// With ym = mean(y) and G = mean((y - ym)(y - ym)^T) over all cells: mean_z = W1 ym + b1, var_z = rowsum((W1 G) * W1).
// Sums are taken about the last step's mean to keep their digits. The block that adds them up, the last of its launch,
// makes of them what the step needs: see norm.cuh.
#pragma once

#include "active.cuh"
#include "arena.h"
#include "norm.cuh"
#include "perception.cuh"
#include "products.cuh"
#include "tree.cuh"

namespace ncafast::cuda {

constexpr int moment_threads = 256, moment_rows = 128;
constexpr int narrow_blocks8 = 6, wide_blocks8 = 16;  // of 8 columns of the perception that an instance has sums for

// Where the moments of a step go, and the sums on their way there: y [perception16], y y^T [perception16,
// perception16].
struct Measuring {
  Layer<const float> layer;
  Tree tree;
  float* centre;                   // [perception16] what the sums are about; becomes the mean
  float *mean, *moment, *inverse;  // [P], [P, P], [H] of the variances: see norm.cuh
  float eps;
  float* stats;  // [2, H] mean and variance of the hidden units
};

NCAFAST_HOST_DEVICE inline int moment_part(const Shape& s) { return s.perception16 * (1 + s.perception16); }

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

// A warp's sums over cells: 16 rows of y y^T, a slice, by those blocks of 16 columns that no other slice has by
// symmetry: its own and half of the others, which follow it, and again from the first. Rows g and g + 8 are columns 2g
// and 2g + 1 of y, as in left_by_two. The sums of y itself are one more product, with ones.
template <Precision precision, int most_blocks8>
struct MomentSums {
  using P = Product<precision>;
  static constexpr int most_blocks = most_blocks8 / 4 + 1, rows = 16;  // a turn's
  float second[most_blocks][2][4] = {}, once[4] = {};

  NCAFAST_DEVICE static int blocks(int slices) { return slices / 2 + 1; }
  NCAFAST_DEVICE static int column(int slice, int block, int slices) {
    return 16 * (slice + block < slices ? slice + block : slice + block - slices);
  }

  // `rows` rows of y.
  NCAFAST_DEVICE void add(const Shape& s, const float* y, int slice) {
    const int slices = s.perception16 / 16;
    const typename P::Right ones = P::right_of(__float_as_uint(1.0f), __float_as_uint(1.0f));
#pragma unroll
    for (int k = 0; k < rows; k += P::k) {
      const auto left = left_by_two<P>(y + k * s.perception_row + 16 * slice, s.perception_row);
      P::add(once, left, ones);
#pragma unroll
      for (int j = 0; j < most_blocks; ++j) {
        if (j > 0 && j >= blocks(slices)) continue;
        const float* from = y + k * s.perception_row + column(slice, j, slices);
#pragma unroll
        for (int n = 0; n < 2; ++n)
          P::add(second[j][n], left, P::template right<Order::paired>(ByTerm{from + 8 * n, s.perception_row}));
      }
    }
  }

  // To [perception16 (1 + perception16)], or added to what is there.
  NCAFAST_DEVICE void put(const Shape& s, bool adds, int slice, float* to) const {
    const int slices = s.perception16 / 16, g = lane_g(), t = lane_t();
    const auto put_one = [adds](float& there, float value) { there = adds ? there + value : value; };
    float* const matrix = to + s.perception16;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = 16 * slice + 2 * g + i / 2;
      if (t == 0 && i % 2 == 0) put_one(to[row], once[i]);
#pragma unroll
      for (int j = 0; j < most_blocks; ++j) {
        // Of an even number of slices two are as far from each other either way: the first of them has the block.
        if (j >= blocks(slices) || (2 * j == slices && slice >= j)) continue;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int other = column(slice, j, slices) + 8 * n + 2 * t + i % 2;
          put_one(matrix[row * s.perception16 + other], second[j][n][i]);
          if (j > 0) put_one(matrix[other * s.perception16 + row], second[j][n][i]);
        }
      }
    }
  }
};

// Cells that a thread sees at a time. With two of them TF32's three products would spill 20 bytes (sm_90, nvcc 13.0).
template <Precision precision>
constexpr int moment_cells = precision == Precision::tf32 ? 2 : 1;

// This block's sums over its tiles, into its part of `parts`. `m` is a MomentMemory or a StepMemory, whose y is written
// over; blocks have moment_threads.
template <Precision precision, int most_blocks8, class Memory>
NCAFAST_DEVICE void sum_tiles(const Shape& s, const Memory& m, const Sight& sight, const States<const float>& from,
                              float* parts) {
  using Sums = MomentSums<precision, most_blocks8>;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int slices = s.perception16 / 16, groups = moment_groups(s), slice = warp % slices, group = warp / slices;
  Sums sums;
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t, bool follows) {
    load_next_tile(s, from, tile, m.shown, follows, m.tile);
    list_all(s, tile, m.list, m.active, m.count);
    copy_async_wait();
    const int count = *m.count;
    for (int first = 0; first < count; first += moment_rows) {
      __syncthreads();
      const int rows = count - first < moment_rows ? count - first : moment_rows;
      see<Product<precision>, moment_cells<precision>>(s, sight, tile, m.list + first, rows, m.y);
      clear_rows(s, rows, moment_rows, m.y);
      __syncthreads();
      if (group >= groups) continue;
#pragma unroll 1
      for (int row = group * Sums::rows; row < rows; row += groups * Sums::rows)
        sums.add(s, m.y + row * s.perception_row, slice);
    }
  });
  // The groups' sums one after the other, always in this order.
  for (int turn = 0; turn < groups; ++turn) {
    __syncthreads();
    if (group == turn) sums.put(s, turn > 0, slice, m.y);
  }
  __syncthreads();
  float* const part = parts + static_cast<int64_t>(blockIdx.x) * moment_part(s);
  for (int i = 4 * thread; i < moment_part(s); i += 4 * moment_threads) quad_at(part + i) = quad_at(m.y + i);
}

// Mean and variance of 16 hidden units from `unit` on, by one warp. `weight` [hidden32, perception_row] is W1, `moment`
// [perception16, perception16] the central one; both are 0 where there is nothing.
NCAFAST_DEVICE void measure_units(const Shape& s, const Measuring& a, const float* weight, const float* moment,
                                  int unit) {
  using P = Product<Precision::ieee>;
  const int g = lane_g(), t = lane_t(), row = s.perception_row;
  weight += unit * row;
  float mean[2] = {}, variance[2] = {};
#pragma unroll 1
  for (int column = 0; column < s.perception16; column += 8) {
    float along[4] = {};
    for (int k = 0; k < s.perception16; k += P::k)
      P::add(along, P::left<Order::natural>(ByRow{weight + k, row}),
             P::right<Order::natural>(ByRow{moment + column * s.perception16 + k, s.perception16}));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int p = column + 2 * t + i % 2;
      const float w = weight[(g + i / 2 * 8) * row + p];
      variance[i / 2] = fmaf(w, along[i], variance[i / 2]);
      if (p < s.perception) mean[i / 2] = fmaf(w, a.mean[p], mean[i / 2]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int far = 1; far < 4; far *= 2) {
      mean[half] += __shfl_xor_sync(0xffffffffu, mean[half], far);
      variance[half] += __shfl_xor_sync(0xffffffffu, variance[half], far);
    }
    const int h = unit + 8 * half + g;
    if (t > 0 || h >= s.hidden) continue;
    const float found = variance[half] < 0.0f ? 0.0f : variance[half];
    a.stats[h] = mean[half] + a.layer.bias[h];
    a.stats[s.hidden + h] = found;
    a.inverse[h] = 1.0f / sqrtf(found + a.eps);
  }
}

// Everything that `a` names from the sums, by one block. `weight` is room in shared memory [hidden32, perception_row].
NCAFAST_DEVICE void finish_moments(const Shape& s, const Measuring& a, float* weight) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int P = s.perception, lane = thread % 32, warp = thread / 32, warps = threads / 32;
  const float number = 1.0f / (static_cast<float>(s.cells) * static_cast<float>(s.batch));
  load_plain_first(s, a.layer.weight, weight);
  copy_async_commit();
  float* central = a.tree.sum + s.perception16;
  for (int p = warp; p < s.perception16; p += warps)
    for (int q = lane; q < s.perception16; q += 32) {
      float& here = central[p * s.perception16 + q];
      here = here * number - a.tree.sum[p] * number * (a.tree.sum[q] * number);
      if (p < P && q < P) a.moment[p * P + q] = here;
    }
  for (int p = thread; p < P; p += threads) a.mean[p] = a.centre[p] = a.centre[p] + a.tree.sum[p] * number;
  copy_async_wait();
  __syncthreads();
  for (int unit = 16 * warp; unit < s.hidden32; unit += 16 * warps) measure_units(s, a, weight, central, unit);
}

struct Moments {
  Shape shape;
  States<const float> from;
  Weights weights;
  Extra<const float> extra;
  Measuring measuring;
};

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
  grid_dependency_release();  // after the wait: what starts then may take for done all that this kernel waited for
  sum_tiles<precision, most_blocks8>(s, m, Sight{m.tile, m.filters, m.filter_bias, a.weights.centre, a.extra}, a.from,
                                     a.measuring.tree.parts);
  if (add_blocks(a.measuring.tree, moment_part(s))) finish_moments(s, a.measuring, m.y);
}

// ---- all of it before each step of a launch that does all steps

struct Norming {
  Measuring measuring;  // of the first step
  int64_t tape_step;    // floats from one step's mean, moment and variances to the next one's
};

// Leaves the mean and variances of step t, of a narrow perception; y is written over.
template <Precision precision, class Memory>
NCAFAST_DEVICE void norm_step(const Shape& s, const Memory& m, const Sight& sight, const States<const float>& from,
                              const Norming& n, int64_t t) {
  Measuring here = n.measuring;
  here.mean += t * n.tape_step;
  here.moment += t * n.tape_step;
  here.inverse += t * n.tape_step;
  here.stats += 2 * t * s.hidden;
  // Before the first step no mean is known to sum about.
#pragma unroll 1
  for (int round = t == 0 ? 0 : 1; round < 2; ++round) {
    clear_padding(s, static_cast<int>(blockDim.x), m.y);
    sum_tiles<moment_precision(precision), narrow_blocks8>(s, m, sight, from, here.tree.parts);
    if (add_blocks(here.tree, moment_part(s))) finish_moments(s, here, m.y);
    grid_sync();
  }
  clear_padding(s, static_cast<int>(blockDim.x), m.y);
}

}  // namespace ncafast::cuda
