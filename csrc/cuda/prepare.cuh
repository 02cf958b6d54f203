// Parameters in the kernels' layouts, and norms with known statistics folded into the first layer.
#pragma once

#include "../kinds.h"
#include "products.cuh"

namespace ncafast::cuda {

struct Preparation {
  Shape shape;
  bool to_tf32;  // weights of products are rounded
  Rule rule;
  Parameters<const float> parameters;
  Weights weights;
};

// Whether weights of products are rounded to TF32 once; bfloat16 and three products make their operands each time.
inline bool rounds_to_tf32(Precision precision) {
  switch (precision) {
    case Precision::tf32:
      return true;
    case Precision::ieee:
    case Precision::tf32x3:
    case Precision::bf16:
      return false;
  }
  unreachable();
}

// What a norm of known statistics makes of hidden unit h: z -> scale z + shift.
struct Fold {
  float scale, shift;
};

NCAFAST_DEVICE Fold running_fold(const Rule& rule, const Layer<const float>& layer, int h) {
  if (!has_stored_moments(rule.norm)) return {1.0f, 0.0f};
  const float inverse = 1.0f / sqrtf(layer.running_var[h] + rule.norm_eps);
  const float scale = inverse * (layer.norm_weight ? layer.norm_weight[h] : 1.0f);
  return {scale, (layer.norm_bias ? layer.norm_bias[h] : 0.0f) - scale * layer.running_mean[h]};
}

NCAFAST_DEVICE float rounded_if(bool to_tf32, float value) {
  return to_tf32 ? Product<Precision::tf32>::rounded(value) : value;
}

// Everything at the start of a rollout. Under batch norm blocks fold W1 by themselves in each step, see norm.cuh, and
// its bias is the norm's.
inline __global__ void __launch_bounds__(256) prepare(const __grid_constant__ Preparation a) {
  const Shape& s = a.shape;
  const Parameters<const float>& from = a.parameters;
  const int start = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = start; i < s.taps * s.filters * s.channels4; i += stride) {
    const int c = i % s.channels4, f = i / s.channels4 % s.filters, tap = i / s.channels4 / s.filters;
    a.weights.filters[i] = c < s.channels ? from.filters[(f * s.channels + c) * s.taps + tap] : 0.0f;
  }
  for (int i = start; i < s.filters * s.channels4; i += stride) {
    const int c = i % s.channels4, f = i / s.channels4;
    a.weights.filter_bias[i] = from.filter_bias && c < s.channels ? from.filter_bias[f * s.channels + c] : 0.0f;
  }
  for (int i = start; i < s.channels8 * s.hidden_row; i += stride) {
    const int h = i % s.hidden_row, c = i / s.hidden_row;
    const bool there = h < s.hidden && c >= s.mutable_lo && c < s.mutable_hi;
    a.weights.update[i] = there ? rounded_if(a.to_tf32, from.update_weight[(c - s.mutable_lo) * s.hidden + h]) : 0.0f;
  }
  for (int c = start; c < s.channels8; c += stride) {
    const bool there = from.update_bias && c >= s.mutable_lo && c < s.mutable_hi;
    a.weights.update_bias[c] = there ? from.update_bias[c - s.mutable_lo] : 0.0f;
  }
  const Layer<const float>& layer = from.hidden[0];
  if (s.centred) {
    for (int h = start; h < s.hidden32; h += stride)
      a.weights.first_bias[h] = h < s.hidden && layer.norm_bias ? layer.norm_bias[h] : 0.0f;
    return;
  }
  for (int i = start; i < s.hidden32 * s.perception_row; i += stride) {
    const int p = i % s.perception_row, h = i / s.perception_row;
    const bool there = p < s.perception && h < s.hidden;
    a.weights.first[i] =
        there ? rounded_if(a.to_tf32, running_fold(a.rule, layer, h).scale * layer.weight[h * s.perception + p]) : 0.0f;
  }
  for (int h = start; h < s.hidden32; h += stride) {
    float bias = 0.0f;
    if (h < s.hidden) {
      const Fold fold = running_fold(a.rule, layer, h);
      bias = fold.scale * layer.bias[h] + fold.shift;
    }
    a.weights.first_bias[h] = bias;
  }
}

}  // namespace ncafast::cuda
