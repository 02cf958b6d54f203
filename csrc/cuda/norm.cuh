// Batch norm folded into the first layer: what a step needs of the moments, a mean of the perception and the
// variances of the hidden units.
//
// The norm is folded into W1; the mean is taken off the perception itself, so that the bias cancels and the rounding of
// products goes by how far cells differ. Each block folds the W1 that it keeps in shared memory.
#pragma once

#include "perception.cuh"
#include "prepare.cuh"

namespace ncafast::cuda {

struct Folding {
  bool to_tf32;
  Layer<const float> layer;
  const float* inverse;  // [H] 1 / sqrt(variance + eps)
};

// The factor that hidden unit h's weights get.
NCAFAST_DEVICE float fold_scale(const Folding& f, int h) {
  return f.layer.norm_weight ? f.layer.norm_weight[h] * f.inverse[h] : f.inverse[h];
}

// Starts the copies of W1 as it is to rows [hidden32, perception_row], 0 where there is none.
NCAFAST_DEVICE void load_plain_first(const Shape& s, const float* weight, float* first) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warps = static_cast<int>(blockDim.x) / 32;
#pragma unroll 1
  for (int h = static_cast<int>(threadIdx.x) / 32; h < s.hidden32; h += warps)
#pragma unroll 1
    for (int p = lane; p < s.perception_row; p += 32) {
      const bool there = h < s.hidden && p < s.perception;
      copy_async<4>(first + h * s.perception_row + p, there ? weight + h * s.perception + p : weight, there);
    }
}

// Scales those rows, which all threads have waited for; the caller waits for the others once more.
NCAFAST_DEVICE void fold_first(const Shape& s, const Folding& f, float* first) {
  const int count = s.hidden * s.perception_row;
#pragma unroll 4
  for (int i = 4 * static_cast<int>(threadIdx.x); i < count; i += 4 * static_cast<int>(blockDim.x)) {
    const float scale = fold_scale(f, i / s.perception_row);
    float4& four = quad_at(first + i);
    four = make_float4(rounded_if(f.to_tf32, scale * four.x), rounded_if(f.to_tf32, scale * four.y),
                       rounded_if(f.to_tf32, scale * four.z), rounded_if(f.to_tf32, scale * four.w));
  }
}

}  // namespace ncafast::cuda
