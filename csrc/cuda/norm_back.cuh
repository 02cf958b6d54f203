// Batch norm backward between the two passes: gradients of the first layer, and the map that every cell's dL/dy takes.
//
// With da = dL/d(norm output) on the cells that fired, s = 1 / sqrt(var + eps), N cells, E = sum da (y - ym)^T [H, P]:
//   dbeta = sum da,  dgamma = s rowsum(W1 o E),  m1 = dbeta gamma / N,  m2 = dgamma gamma / N
//   dW1 = gamma s E - N s^2 m2 (W1 G)
//   dy += A (y - ym) + c on every cell,  A = -W1^T diag(s^2 m2) W1,  c = -W1^T (s m1)
#pragma once

#include "active.cuh"
#include "arena.h"
#include "perception.cuh"
#include "prepare.cuh"
#include "products.cuh"
#include "slab.h"

namespace ncafast::cuda {

struct NormGradients {
  Shape shape;
  bool to_tf32;
  float eps;
  Layer<const float> layer;
  const float* sums;       // the first layer's part of a slab, over all blocks
  const float* moment;     // [P, P]
  const float* stats;      // [2, H]
  float* weight;           // [H, P] added to
  float *gamma, *beta;     // [H] added to
  float *by_two, *by_one;  // [H] s^2 m2, s m1
  float* matrix;           // A [perception16, perception_row]
  float* offset;           // c [perception16]
};

// One warp per hidden unit: this step's share of its gradients.
inline __global__ void __launch_bounds__(128) norm_gradients(const __grid_constant__ NormGradients a) {
  grid_dependency_wait();
  const Shape& s = a.shape;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int h = static_cast<int>(blockIdx.x) * 4 + static_cast<int>(threadIdx.x) / 32;
  if (h >= s.hidden) return;
  const float* w = a.layer.weight + h * s.perception;
  const float* sums = a.sums + h * s.perception16;
  float rows = 0.0f;
  for (int p = lane; p < s.perception; p += 32) rows = fmaf(w[p], sums[p], rows);
#pragma unroll
  for (int far = 16; far > 0; far /= 2) rows += __shfl_xor_sync(0xffffffffu, rows, far);
  const float number = static_cast<float>(s.cells) * static_cast<float>(s.batch);
  const float inverse = 1.0f / sqrtf(a.stats[s.hidden + h] + a.eps);
  const float gain = a.layer.norm_weight ? a.layer.norm_weight[h] : 1.0f;
  const float dbeta = a.sums[Slab(s).first_bias + h], dgamma = inverse * rows;
  const float by_two = inverse * inverse * (dgamma * gain / number), by_one = inverse * (dbeta * gain / number);
  for (int p = lane; p < s.perception; p += 32) {
    float spread = 0.0f;
    for (int q = 0; q < s.perception; ++q) spread = fmaf(a.moment[q * s.perception + p], w[q], spread);
    a.weight[h * s.perception + p] += gain * inverse * sums[p] - number * by_two * spread;
  }
  if (lane == 0) {
    a.gamma[h] += dgamma;
    a.beta[h] += dbeta;
    a.by_two[h] = by_two;
    a.by_one[h] = by_one;
  }
}

inline __global__ void __launch_bounds__(256) norm_map(const __grid_constant__ NormGradients a) {
  grid_dependency_wait();
  const Shape& s = a.shape;
  const int number = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int i = number / s.perception_row, j = number % s.perception_row;
  if (i >= s.perception16) return;
  float sum = 0.0f, shift = 0.0f;
  if (i < s.perception && j < s.perception) {
    for (int h = 0; h < s.hidden; ++h) {
      const float left = a.layer.weight[h * s.perception + i];
      sum = fmaf(left * a.by_two[h], a.layer.weight[h * s.perception + j], sum);
      shift = fmaf(left, a.by_one[h], shift);
    }
  }
  a.matrix[number] = rounded_if(a.to_tf32, -sum);
  if (j == 0) a.offset[i] = -shift;
}

struct ThroughNorm {
  Shape shape;
  States<const float> x;
  Weights weights;
  Extra<const float> extra;
  const float *matrix, *offset;
  float* dy;  // [B, *S, perception16] added to
};

constexpr int norm_threads = 128;

struct NormMemory {
  float *tile, *y, *matrix, *filters, *filter_bias;
  int* shown;
  uint16_t* list;
  uint8_t* active;
  int* count;

  NCAFAST_HOST_DEVICE NormMemory(const Shape& s, int threads, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    y = arena.take<float>(int64_t{threads} * s.perception_row);
    matrix = arena.take<float>(int64_t{s.perception16} * s.perception_row);
    filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
    filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
    shown = arena.take<int>(shown_parts(s));
    list = arena.take<uint16_t>(s.box_cells);
    active = arena.take<uint8_t>(s.box_cells);
    count = arena.take<int>(2);
  }
};

// What flows through the batch's statistics: dy += A (y - ym) + c on every cell. A warp takes 32 cells.
template <Precision precision>
__global__ void __launch_bounds__(norm_threads, 4) through_norm(const __grid_constant__ ThroughNorm a) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const int rows = static_cast<int>(blockDim.x);
  const NormMemory m(s, rows, arena);
  clear_padding(s, rows, m.y);
  grid_dependency_wait();
  load_array(m.matrix, a.matrix, s.perception16 * s.perception_row);
  load_array(m.filters, a.weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, a.weights.filter_bias, s.filters * s.channels4);
  const Sight sight{m.tile, m.filters, m.filter_bias, a.weights.centre, a.extra};
  const int row = static_cast<int>(threadIdx.x) / 32 * 32, g = lane_g(), t = lane_t();
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t, bool follows) {
    load_next_tile(s, a.x, tile, m.shown, follows, m.tile);
    list_all(s, tile, m.list, m.active, m.count);
    copy_async_wait();
    const int count = *m.count;
    for (int first = 0; first < count; first += rows) {
      __syncthreads();
      see<P, 4>(s, sight, tile, m.list + first, count - first < rows ? count - first : rows, m.y);
      __syncthreads();
      if (first + row >= count) continue;
      for (int column = 0; column < s.perception16; column += 16) {
        float sum[2][2][4] = {};
#pragma unroll 1
        for (int k = 0; k < s.perception16; k += P::k)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const auto left =
                P::template left<Order::natural>(ByRow{m.y + (row + 16 * i) * s.perception_row + k, s.perception_row});
#pragma unroll
            for (int n = 0; n < 2; ++n)
              P::add(sum[i][n], left,
                     P::template right<Order::natural>(
                         ByRow{m.matrix + (column + 8 * n) * s.perception_row + k, s.perception_row}));
          }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int r = first + row + 8 * i + g;
          if (r >= count) continue;
          const int64_t cell = tile.sample * s.cells + shown_cell(s, m.shown, m.list[r]);
#pragma unroll
          for (int n = 0; n < 2; ++n) {
            const int p = column + 8 * n + 2 * t;
            float2& to = *reinterpret_cast<float2*>(a.dy + cell * s.perception16 + p);
            const float* found = sum[i / 2][n] + i % 2 * 2;
            to = make_float2(to.x + found[0] + a.offset[p], to.y + found[1] + a.offset[p + 1]);
          }
        }
      }
    }
  });
}

}  // namespace ncafast::cuda
