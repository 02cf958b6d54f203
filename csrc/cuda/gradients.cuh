// The parameters' gradients from the sums over all blocks and steps.
#pragma once

#include "prepare.cuh"
#include "slab.h"

namespace ncafast::cuda {

struct WriteGradients {
  Shape shape;
  Rule rule;
  Parameters<const float> parameters;
  const float* sums;     // a slab
  const float* filters;  // [taps, F, channels4]
  // Under batch norm:
  const float *norm_gamma, *norm_beta;  // [H]
  const float* by_two;                  // [steps, H] s^2 m2, see norm_back.cuh
  const float* moment;                  // [P, P] of the first step
  int64_t steps, tape_step;             // floats from one step's moment to the next one's
  Parameters<float> to;
};

// dL/d(filter bias) is W1^T dL/db1, W1 with its norm folded in: each cell's dy is W1^T dz.
NCAFAST_DEVICE float filter_bias_gradient(const WriteGradients& a, int column) {
  const Shape& s = a.shape;
  float sum = 0.0f;
  for (int h = 0; h < s.hidden; ++h) {
    const float weight = a.parameters.hidden[0].weight[h * s.perception + column];
    sum = fmaf(running_fold(a.rule, a.parameters.hidden[0], h).scale * weight, a.sums[Slab(s).first_bias + h], sum);
  }
  return sum;
}

// N s^2 m2 (W1 G) of all steps: what dL/dW1 has less under batch norm for how the variance hangs on it.
NCAFAST_DEVICE float through_variance(const WriteGradients& a, int h, int p) {
  const Shape& s = a.shape;
  const float* weight = a.parameters.hidden[0].weight + h * s.perception;
  float sum = 0.0f;
  for (int64_t t = 0; t < a.steps; ++t) {
    const float* moment = a.moment + t * a.tape_step + p;
    float spread = 0.0f;
#pragma unroll 8
    for (int q = 0; q < s.perception; ++q) spread = fmaf(moment[q * s.perception], weight[q], spread);
    sum = fmaf(a.by_two[t * s.hidden + h], spread, sum);
  }
  return static_cast<float>(s.cells) * static_cast<float>(s.batch) * sum;
}

inline __global__ void __launch_bounds__(256) write_gradients(const __grid_constant__ WriteGradients a) {
  grid_dependency_wait();
  const Shape& s = a.shape;
  const Slab at(s);
  const int start = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  const Layer<float>& to = a.to.hidden[0];
  const Layer<const float>& layer = a.parameters.hidden[0];
  if (a.to.filters)
    for (int i = start; i < s.taps * s.filters * s.channels; i += stride) {
      const int tap = i % s.taps, c = i / s.taps % s.channels, f = i / s.taps / s.channels;
      a.to.filters[i] = a.filters[(tap * s.filters + f) * s.channels4 + c];
    }
  // Batch norm takes away what is the same in every cell, so that such a bias has no gradient but rounding.
  if (a.to.filter_bias)
    for (int i = start; i < s.filters * s.channels; i += stride)
      a.to.filter_bias[i] = s.centred ? 0.0f : filter_bias_gradient(a, s.own + i);
  if (a.to.update_weight)
    for (int i = start; i < (s.mutable_hi - s.mutable_lo) * s.hidden; i += stride)
      a.to.update_weight[i] = a.sums[at.update + i % s.hidden * s.channels8 + s.mutable_lo + i / s.hidden];
  if (a.to.update_bias)
    for (int i = start; i < s.mutable_hi - s.mutable_lo; i += stride)
      a.to.update_bias[i] = a.sums[at.update_bias + s.mutable_lo + i];
  if (to.weight)
    for (int i = start; i < s.hidden * s.perception; i += stride) {
      const int h = i / s.perception, p = i % s.perception;
      const float sum = a.sums[at.first + h * s.perception16 + p];
      to.weight[i] = s.centred ? sum - through_variance(a, h, p) : running_fold(a.rule, layer, h).scale * sum;
    }
  for (int h = start; h < s.hidden; h += stride) {
    const float da = a.sums[at.first_bias + h];
    if (to.bias) to.bias[h] = s.centred ? 0.0f : running_fold(a.rule, layer, h).scale * da;
    if (has_batch_moments(a.rule.norm)) {
      if (to.norm_weight) to.norm_weight[h] = a.norm_gamma[h];
      if (to.norm_bias) to.norm_bias[h] = a.norm_beta[h];
    }
    if (has_stored_moments(a.rule.norm)) {
      if (to.norm_bias) to.norm_bias[h] = da;
      if (to.norm_weight) {
        float rows = (layer.bias[h] - layer.running_mean[h]) * da;
        for (int p = 0; p < s.perception; ++p)
          rows = fmaf(layer.weight[h * s.perception + p], a.sums[at.first + h * s.perception16 + p], rows);
        to.norm_weight[h] = rows / sqrtf(layer.running_var[h] + a.rule.norm_eps);
      }
    }
  }
}

}  // namespace ncafast::cuda
