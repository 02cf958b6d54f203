// The parameters' gradients of layered rules, from the sums over all blocks and steps.
#pragma once

#include "layers_sums.cuh"
#include "prepare.cuh"

namespace ncafast::cuda {

struct WriteLayers {
  Shape shape;
  Layers layers;
  Rule rule;
  Parameters<const float> parameters;
  const float* sums;  // a slab
  LayerSum hidden[max_hidden_layers], update, dense;
  const float* filters;  // [taps, F, channels4]
  Parameters<float> to;
};

// Calls put(i) for all numbers below a count, shared out among the threads of the launch; not at all for a null array.
template <class Put>
NCAFAST_DEVICE void fill(float* to, int count, Put put) {
  if (!to) return;
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < count;
       i += static_cast<int>(gridDim.x * blockDim.x))
    to[i] = put(i);
}

// A norm of known statistics makes z of scale z + shift; the sums are those of what came back to its outcome.
NCAFAST_DEVICE void write_layer(const WriteLayers& a, int number, int inputs) {
  const LayerSum& sum = a.hidden[number];
  const Layer<const float>& layer = a.parameters.hidden[number];
  const Layer<float>& to = a.to.hidden[number];
  const int hidden = a.rule.hidden[number];
  const float *weight = a.sums + sum.at, *bias = a.sums + sum.bias_at;
  const auto scale = [&](int h) { return running_fold(a.rule, layer, h).scale; };
  fill(to.weight, hidden * inputs,
       [&](int i) { return scale(i / inputs) * weight[i / inputs * sum.terms + i % inputs]; });
  fill(to.bias, hidden, [&](int h) { return scale(h) * bias[h]; });
  if (!has_stored_moments(a.rule.norm)) return;
  fill(to.norm_bias, hidden, [&](int h) { return bias[h]; });
  fill(to.norm_weight, hidden, [&](int h) {
    float found = (layer.bias[h] - layer.running_mean[h]) * bias[h];
    for (int i = 0; i < inputs; ++i) found = fmaf(layer.weight[h * inputs + i], weight[h * sum.terms + i], found);
    return found / sqrtf(layer.running_var[h] + a.rule.norm_eps);
  });
}

// dL/d(filter bias) is W1^T dL/db1, W1 with its norm folded in: each cell's dy is W1^T dz.
NCAFAST_DEVICE float seen_bias(const WriteLayers& a, int column) {
  const Layer<const float>& layer = a.parameters.hidden[0];
  float sum = 0.0f;
  for (int h = 0; h < a.rule.hidden[0]; ++h)
    sum = fmaf(running_fold(a.rule, layer, h).scale * layer.weight[h * a.shape.perception + column],
               a.sums[a.hidden[0].bias_at + h], sum);
  return sum;
}

inline __global__ void __launch_bounds__(256) write_layers(const __grid_constant__ WriteLayers a) {
  grid_dependency_wait();
  const Shape& s = a.shape;
  int inputs = s.perception;
  for (int number = 0; number < a.layers.count; ++number) {
    write_layer(a, number, inputs);
    inputs = a.rule.hidden[number];
  }
  const int moved = s.mutable_hi - s.mutable_lo;
  fill(a.to.update_weight, moved * inputs,
       [&](int i) { return a.sums[a.update.at + (s.mutable_lo + i / inputs) * a.update.terms + i % inputs]; });
  fill(a.to.update_bias, moved, [&](int i) { return a.sums[a.update.bias_at + s.mutable_lo + i]; });
  if (s.dense > 0) {
    fill(a.to.filters, s.dense * s.channels * s.taps, [&](int i) {
      const int tap = i % s.taps, c = i / s.taps % s.channels, output = i / s.taps / s.channels;
      return a.sums[a.dense.at + output * a.dense.terms + tap * a.layers.channels16 + c];
    });
    fill(a.to.filter_bias, s.dense, [&](int output) { return a.sums[a.dense.bias_at + output]; });
    return;
  }
  fill(a.to.filters, s.filters * s.channels * s.taps, [&](int i) {
    const int tap = i % s.taps, c = i / s.taps % s.channels, f = i / s.taps / s.channels;
    return a.filters[(tap * s.filters + f) * s.channels4 + c];
  });
  fill(a.to.filter_bias, s.filters * s.channels, [&](int i) { return seen_bias(a, s.own + i); });
}

}  // namespace ncafast::cuda
