// Activations and their derivatives on the values that a thread holds. The kind is the same for all threads, so that it
// is asked once per group of values.
#pragma once

#include "device.h"
#include "shape.h"

namespace ncafast::cuda {

template <int count, class Function>
NCAFAST_DEVICE void each_value(float (*values)[4], Function function) {
#pragma unroll
  for (int i = 0; i < count; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) values[i][j] = function(values[i][j]);
}

// Whether it is a line on either side of 0.
NCAFAST_DEVICE bool is_line(Activation activation) {
  return activation == Activation::relu || activation == Activation::leaky_relu || activation == Activation::identity;
}

NCAFAST_DEVICE float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

// values [count][4] become their activations, of a kind and with its slope below 0. A NaN stays one.
template <int count>
NCAFAST_DEVICE void activate(Activation kind, float slope, float (*values)[4]) {
  switch (kind) {
    case Activation::elu:
      return each_value<count>(values, [](float v) { return v > 0.0f ? v : expm1f(v); });
    case Activation::gelu:
      return each_value<count>(values, [](float v) { return 0.5f * v * (1.0f + erff(v * 0.707106781f)); });
    case Activation::silu:
      return each_value<count>(values, [](float v) { return v * sigmoid(v); });
    case Activation::tanh:
      return each_value<count>(values, [](float v) { return tanhf(v); });
    case Activation::relu:
    case Activation::leaky_relu:
    case Activation::identity:
      break;
  }
  each_value<count>(values, [slope](float v) { return v < 0.0f ? slope * v : v; });
}

template <int count>
NCAFAST_DEVICE void activate(const Shape& s, float (*values)[4]) {
  activate<count>(s.activation, s.slope, values);
}

// The same, rounded as left operands of product P are.
template <class P, int count>
NCAFAST_DEVICE void activate_rounded(const Shape& s, float (*values)[4]) {
  if (s.activation == Activation::relu)
    return each_value<count>(values, [](float v) { return P::rounded_positive(max_nan(v, 0.0f)); });
  activate<count>(s, values);
#pragma unroll
  for (int i = 0; i < count; ++i) P::make_operands(values[i]);
}

// delta [count][4] times the derivative at z.
template <int count, class Function>
NCAFAST_DEVICE void each_slope(const float (*z)[4], float (*delta)[4], Function function) {
#pragma unroll
  for (int i = 0; i < count; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) delta[i][j] *= function(z[i][j]);
}

template <int count>
NCAFAST_DEVICE void through_activation(Activation kind, float slope, const float (*z)[4], float (*delta)[4]) {
  if (is_line(kind)) {
#pragma unroll
    for (int i = 0; i < count; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (z[i][j] <= 0.0f) delta[i][j] *= slope;
    return;
  }
  switch (kind) {
    case Activation::elu:
      return each_slope<count>(z, delta, [](float v) { return v > 0.0f ? 1.0f : expf(v); });
    case Activation::gelu:
      return each_slope<count>(z, delta, [](float v) {
        return 0.5f * (1.0f + erff(v * 0.707106781f)) + v * 0.398942280f * expf(-0.5f * v * v);
      });
    case Activation::silu:
      return each_slope<count>(z, delta, [](float v) {
        const float p = sigmoid(v);
        return p * (1.0f + v * (1.0f - p));
      });
    case Activation::tanh:
      return each_slope<count>(z, delta, [](float v) {
        const float t = tanhf(v);
        return 1.0f - t * t;
      });
    case Activation::relu:
    case Activation::leaky_relu:
    case Activation::identity:
      break;
  }
}

template <int count>
NCAFAST_DEVICE void through_activation(const Shape& s, const float (*z)[4], float (*delta)[4]) {
  through_activation<count>(s.activation, s.slope, z, delta);
}

}  // namespace ncafast::cuda
