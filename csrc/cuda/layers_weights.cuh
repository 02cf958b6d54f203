// Parameters of layered rules as their kernels read them, at the start of a rollout.
#pragma once

#include "layers.h"
#include "prepare.cuh"

namespace ncafast::cuda {

struct LayersPreparation {
  Shape shape;
  Layers layers;
  bool to_tf32;   // weights of products are rounded
  bool backward;  // the transposed ones are written too
  Rule rule;
  Parameters<const float> parameters;
};

// Calls put(output, term) for all of [outputs, terms], shared out among the threads of the launch.
template <class Value>
NCAFAST_DEVICE void fill_matrix(float* to, int outputs, int terms, bool to_tf32, Value value) {
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < outputs * terms; i += stride)
    to[i] = rounded_if(to_tf32, value(i / terms, i % terms));
}

inline __global__ void __launch_bounds__(256) prepare_layers(const __grid_constant__ LayersPreparation a) {
  const Shape& s = a.shape;
  const Layers& l = a.layers;
  const Parameters<const float>& from = a.parameters;
  const LayerWeights& to = l.weights;
  fill_matrix(to.filters, s.taps * s.filters, s.channels4, false, [&](int i, int c) {
    return c < s.channels ? from.filters[(i % s.filters * s.channels + c) * s.taps + i / s.filters] : 0.0f;
  });
  fill_matrix(to.filter_bias, s.filters, s.channels4, false, [&](int f, int c) {
    return from.filter_bias && c < s.channels ? from.filter_bias[f * s.channels + c] : 0.0f;
  });
  const auto dense = [&](int output, int c, int tap) {
    return output < s.dense && c < s.channels ? from.filters[(output * s.channels + c) * s.taps + tap] : 0.0f;
  };
  fill_matrix(to.dense, l.dense16, s.taps * l.channels16, a.to_tf32,
              [&](int output, int i) { return dense(output, i % l.channels16, i / l.channels16); });
  fill_matrix(to.dense_bias, 1, l.dense16, false,
              [&](int, int output) { return from.filter_bias && output < s.dense ? from.filter_bias[output] : 0.0f; });
  int inputs = s.perception;
  for (int number = 0; number < l.count; ++number) {
    const Layer<const float>& layer = from.hidden[number];
    const int hidden = a.rule.hidden[number];
    const auto weight = [&](int h, int i) {
      return h < hidden && i < inputs ? running_fold(a.rule, layer, h).scale * layer.weight[h * inputs + i] : 0.0f;
    };
    fill_matrix(to.hidden[number], l.width[number], l.inputs[number], a.to_tf32, weight);
    fill_matrix(to.hidden_bias[number], 1, l.width[number], false, [&](int, int h) {
      if (h >= hidden) return 0.0f;
      const Fold fold = running_fold(a.rule, layer, h);
      return fold.scale * layer.bias[h] + fold.shift;
    });
    if (a.backward)
      fill_matrix(to.hidden_back[number], l.inputs[number] + (number == 0 ? 16 : 0), l.width[number], a.to_tf32,
                  [&](int i, int h) { return weight(h, i); });
    inputs = hidden;
  }
  const auto update = [&](int c, int h) {
    const bool there = h < inputs && c >= s.mutable_lo && c < s.mutable_hi;
    return there ? from.update_weight[(c - s.mutable_lo) * inputs + h] : 0.0f;
  };
  const int last = l.width[l.count - 1];
  fill_matrix(to.update, l.channels16, last, a.to_tf32, update);
  fill_matrix(to.update_bias, 1, l.channels16, false, [&](int, int c) {
    return from.update_bias && c >= s.mutable_lo && c < s.mutable_hi ? from.update_bias[c - s.mutable_lo] : 0.0f;
  });
  if (!a.backward) return;
  fill_matrix(to.update_back, last, l.channels16, a.to_tf32, [&](int h, int c) { return update(c, h); });
  fill_matrix(to.dense_back, l.channels16, s.taps * l.dense16, a.to_tf32,
              [&](int c, int i) { return dense(i % l.dense16, c, i / l.dense16); });
}

}  // namespace ncafast::cuda
