// Gradients of layers: for each the product of its deltas, transposed, with what went into it, over the rows of a
// trail. A block has 64 outputs by 64 terms of one layer and every so many-th tile; it adds to sums of its own.
#pragma once

#include "layers_back.cuh"

namespace ncafast::cuda {

constexpr int sum_threads = 128, sum_side = 64;       // a block; what it has of a matrix
constexpr int sum_rows = 16, sum_row = sum_side + 8;  // a stage; 8 times an odd number, for columns as operands

// One layer: its rows, and where its sums lie in a slab, [outputs, terms] and [outputs] of the bias.
struct LayerSum {
  const float *delta, *values;
  int outputs, terms;
  int64_t at, bias_at;

  NCAFAST_HOST_DEVICE int across() const { return (terms + sum_side - 1) / sum_side; }
  NCAFAST_HOST_DEVICE int blocks() const { return (outputs + sum_side - 1) / sum_side * across(); }
};

constexpr int most_sums = max_hidden_layers + 2;

struct SumLayers {
  LayerSum of[most_sums];
  int count;
  const int* counts;  // active cells of each tile
  int tiles, tile_rows;
  float* slabs;  // [gridDim.y, slab], added to
  int64_t slab;
};

// The rows that a block goes through: 16 at a time, of every so many-th tile.
struct RowsInTurn {
  const int* counts;
  int tiles, tile, row;

  NCAFAST_DEVICE void skip_done() {
    while (tile < tiles && row >= counts[tile]) {
      tile += static_cast<int>(gridDim.y);
      row = 0;
    }
  }
  NCAFAST_DEVICE bool there() const { return tile < tiles; }
};

struct SumStage {
  float delta[sum_rows * sum_row], values[sum_rows * sum_row];
};

NCAFAST_DEVICE void load_columns(float* to, const float* from, int stride, int column) {
  constexpr int quads = sum_side / 4;
  for (int i = static_cast<int>(threadIdx.x); i < sum_rows * quads; i += sum_threads) {
    const int row = i / quads, c = 4 * (i % quads);
    const bool there = column + c < stride;
    copy_async<16>(to + row * sum_row + c, from + (there ? row * stride + column + c : 0), there);
  }
}

template <Precision precision>
__global__ void __launch_bounds__(sum_threads) sum_layers(const __grid_constant__ SumLayers a) {
  using P = Product<precision>;
  SumStage* const stages = shared_memory<SumStage>();
  grid_dependency_wait();
  int block = static_cast<int>(blockIdx.x), number = 0;
  while (block >= a.of[number].blocks()) block -= a.of[number++].blocks();
  const LayerSum& job = a.of[number];
  const int output = block / job.across() * sum_side, term = block % job.across() * sum_side;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int own_output = warp % 2 * 32, own_term = warp / 2 * 32;
  const bool has_bias = term == 0 && thread < sum_side;
  const auto load = [&](SumStage& to, const RowsInTurn& at) {
    const int64_t row = static_cast<int64_t>(at.tile) * a.tile_rows + at.row;
    load_columns(to.delta, job.delta + row * job.outputs, job.outputs, output);
    load_columns(to.values, job.values + row * job.terms, job.terms, term);
    copy_async_commit();
  };
  float sums[2][4][4] = {}, bias = 0.0f;
  RowsInTurn at{a.counts, a.tiles, static_cast<int>(blockIdx.y), 0};
  at.skip_done();
  if (at.there()) load(stages[0], at);
#pragma unroll 1
  for (int turn = 0; at.there(); turn ^= 1) {
    at.row += sum_rows;
    at.skip_done();
    if (at.there()) {
      load(stages[turn ^ 1], at);
      copy_async_wait<1>();
    } else {
      copy_async_wait();
    }
    __syncthreads();
    const SumStage& here = stages[turn];
#pragma unroll
    for (int k = 0; k < sum_rows; k += P::k) {
      typename P::Left delta[2];
#pragma unroll
      for (int m = 0; m < 2; ++m)
        delta[m] = P::template left<Order::natural>(ByTerm{here.delta + k * sum_row + own_output + 16 * m, sum_row});
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const auto value =
            P::template right<Order::natural>(ByTerm{here.values + k * sum_row + own_term + 8 * n, sum_row});
#pragma unroll
        for (int m = 0; m < 2; ++m) P::add(sums[m][n], delta[m], value);
      }
    }
    if (has_bias)
      for (int row = 0; row < sum_rows; ++row) bias += here.delta[row * sum_row + thread];
    __syncthreads();  // before the next turn's copies
  }
  float* slab = a.slabs + blockIdx.y * a.slab;
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = output + own_output + 16 * m + 8 * half + lane_g();
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int j = term + own_term + 8 * n + 2 * lane_t();
        if (i >= job.outputs || j >= job.terms) continue;
        float2& to = *reinterpret_cast<float2*>(slab + job.at + static_cast<int64_t>(i) * job.terms + j);
        to = make_float2(to.x + sums[m][n][2 * half], to.y + sums[m][n][2 * half + 1]);
      }
    }
  if (has_bias && output + thread < job.outputs) slab[job.bias_at + output + thread] += bias;
}

}  // namespace ncafast::cuda
