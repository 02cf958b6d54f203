// Activations in place, and their derivatives for backward. Tiles are [rows, Np], a multiple of W floats.

template <class Function>
NCAFAST_INLINE void each(int64_t count, const float* from, float* to, Function function) {
  for (int64_t i = 0; i < count; i += W) store(to + i, function(load(from + i)));
}

constexpr float sqrt_half = 0.707106781f;

static void activate(Activation kind, float slope, int64_t count, float* z) {
  switch (kind) {
    case Activation::relu:
      return each(count, z, z, relu);
    case Activation::leaky_relu:
      return each(count, z, z, [slope](vec v) { return v > 0.0f ? v : v * slope; });
    case Activation::elu:
      return each(count, z, z, [](vec v) { return v > 0.0f ? v : expm1(v); });
    case Activation::gelu:
      return each(count, z, z, [](vec v) { return 0.5f * v * (1.0f + erf(v * sqrt_half)); });
    case Activation::silu:
      return each(count, z, z, [](vec v) { return v * sigmoid(v); });
    case Activation::tanh:
      return each(count, z, z, [](vec v) { return tanh(v); });
    case Activation::identity:
      return;
  }
  unreachable();
}

// Whether the derivative can be read off the activation's value; else it is written down in forward.
static bool slope_from_value(Activation kind) {
  switch (kind) {
    case Activation::relu:
    case Activation::leaky_relu:
    case Activation::identity:
      return true;
    case Activation::elu:
    case Activation::gelu:
    case Activation::silu:
    case Activation::tanh:
      return false;
  }
  unreachable();
}

// slopes = derivative at z.
static void differentiate(Activation kind, int64_t count, const float* z, float* slopes) {
  switch (kind) {
    case Activation::elu:
      return each(count, z, slopes, [](vec v) { return v > 0.0f ? all(1.0f) : exp(v); });
    case Activation::gelu:
      return each(count, z, slopes,
                  [](vec v) { return 0.5f * (1.0f + erf(v * sqrt_half)) + v * (0.398942280f * exp(-0.5f * v * v)); });
    case Activation::silu:
      return each(count, z, slopes, [](vec v) {
        const vec s = sigmoid(v);
        return s * (1.0f + v * (1.0f - s));
      });
    case Activation::tanh:
      return each(count, z, slopes, [](vec v) { return tanh_slope(v); });
    case Activation::relu:  // those of slope_from_value: nothing is written down
    case Activation::leaky_relu:
    case Activation::identity:
      return;
  }
  unreachable();
}

template <class Function>
NCAFAST_INLINE void each_delta(int64_t count, const float* from, float* delta, Function function) {
  for (int64_t i = 0; i < count; i += W) store(delta + i, function(load(from + i), load(delta + i)));
}

// delta *= derivative, from the activation's value or from the slopes written down.
static void through_activation(Activation kind, float slope, int64_t count, const float* value, const float* slopes,
                               float* delta) {
  switch (kind) {
    case Activation::relu:
      return each_delta(count, value, delta, [](vec v, vec g) { return relu_slope(v, g); });
    case Activation::leaky_relu:
      return each_delta(count, value, delta, [slope](vec v, vec g) { return v > 0.0f ? g : g * slope; });
    case Activation::elu:
    case Activation::gelu:
    case Activation::silu:
    case Activation::tanh:
      return each_delta(count, slopes, delta, [](vec s, vec g) { return g * s; });
    case Activation::identity:
      return;
  }
  unreachable();
}
