// Batch norm backward: a step's gradients of the norm, and the map that every cell's dL/dy takes.
//
// With da = dL/d(norm output) on the cells that fired, s = 1 / sqrt(var + eps), N cells, E = sum da (y - ym)^T [H, P]:
//   dbeta = sum da,  dgamma = s rowsum(W1 o E),  m1 = dbeta gamma / N,  m2 = dgamma gamma / N
//   dW1 = gamma s E - N s^2 m2 (W1 G)
//   dy += A (y - ym) + c on every cell,  A = -W1^T diag(s^2 m2) W1,  c = -W1^T (s m1)
// Only dbeta and rowsum(W1 o E) cross blocks within a step, 2 H floats of each: the last block of mlp_backward adds
// them up and makes A and c. The first term of dW1 is summed block by block over all steps, its second one from the s^2
// m2 of all steps at the end of the rollout, see gradients.cuh.
#pragma once

#include "norm.cuh"
#include "products.cuh"
#include "tree.cuh"

namespace ncafast::cuda {

struct NormBack {
  Tree tree;            // of parts as in norm_part
  float *gamma, *beta;  // [H] added to
  float* by_two;        // [H] s^2 m2 of this step
  float* matrix;        // A [perception16, perception_row]
  float* offset;        // c [perception16]
};

// Floats of a block's part: rowsum(W1 o E) [hidden32], sum da [hidden32].
NCAFAST_HOST_DEVICE inline int norm_part(const Shape& s) { return 2 * s.hidden32; }

// Element (i, k) of W1^T diag(by).
struct Weighted {
  const float* weight;
  int row;
  const float* by;
  NCAFAST_DEVICE float operator()(int i, int k) const { return weight[k * row + i] * by[k]; }
};

// A and c by one block, from W1 [hidden32, perception_row], s^2 m2 and s m1 [hidden32] in shared memory.
template <Precision precision>
NCAFAST_DEVICE void make_map(const Shape& s, bool to_tf32, const float* weight, const float* two, const float* one,
                             float* matrix, float* offset) {
  // Not rounded more than what A is rounded to.
  using P = Product<precision == Precision::ieee ? Precision::ieee : Precision::tf32x3>;
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  const int blocks8 = s.perception16 / 8;
#pragma unroll 1
  for (int block = warp; block < s.perception16 / 16 * blocks8; block += warps) {
    const int i = block / blocks8 * 16, j = block % blocks8 * 8;
    float sum[4] = {};
#pragma unroll 2
    for (int h = 0; h < s.hidden32; h += P::k) {
      const float* from = weight + h * s.perception_row;
      P::add(sum, P::template left<Order::natural>(Weighted{from + i, s.perception_row, two + h}),
             P::template right<Order::natural>(ByTerm{from + j, s.perception_row}));
    }
#pragma unroll
    for (int n = 0; n < 4; ++n)
      matrix[(i + lane_g() + n / 2 * 8) * s.perception_row + j + 2 * lane_t() + n % 2] = rounded_if(to_tf32, -sum[n]);
  }
  for (int p = static_cast<int>(threadIdx.x); p < s.perception16; p += static_cast<int>(blockDim.x)) {
    float shift = 0.0f;
    for (int h = 0; h < s.hidden32; ++h) shift = fmaf(weight[h * s.perception_row + p], one[h], shift);
    offset[p] = -shift;
  }
}

// All of it from the sums over blocks, by one block. Room in shared memory: `weight` [hidden32, perception_row], `by`
// [2, hidden32].
template <Precision precision>
NCAFAST_DEVICE void finish_norm(const Shape& s, const Folding& f, const NormBack& a, float* weight, float* by) {
  load_plain_first(s, f.layer.weight, weight);
  copy_async_commit();
  const float number = static_cast<float>(s.cells) * static_cast<float>(s.batch);
  for (int h = static_cast<int>(threadIdx.x); h < s.hidden32; h += static_cast<int>(blockDim.x)) {
    by[h] = by[s.hidden32 + h] = 0.0f;
    if (h >= s.hidden) continue;
    const float inverse = f.inverse[h], gain = f.layer.norm_weight ? f.layer.norm_weight[h] : 1.0f;
    const float dgamma = inverse * a.tree.sum[h], dbeta = a.tree.sum[s.hidden32 + h];
    a.gamma[h] += dgamma;
    a.beta[h] += dbeta;
    a.by_two[h] = by[h] = inverse * inverse * (dgamma * gain / number);
    by[s.hidden32 + h] = inverse * (dbeta * gain / number);
  }
  copy_async_wait();
  __syncthreads();
  make_map<precision>(s, f.to_tf32, weight, by, by + s.hidden32, a.matrix, a.offset);
}

}  // namespace ncafast::cuda
