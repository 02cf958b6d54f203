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
}

// Whether the derivative can be read off the activation's value; else it is written down in forward.
constexpr bool slope_from_value(Activation kind) {
  return kind == Activation::relu || kind == Activation::leaky_relu || kind == Activation::identity;
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
      return each(count, z, slopes, [](vec v) {
        const vec t = tanh(v);
        return 1.0f - t * t;
      });
    default:
      return;
  }
}

// delta *= derivative, from the activation's value or from the slopes written down.
static void through_activation(Activation kind, float slope, int64_t count, const float* value, const float* slopes,
                               float* delta) {
  if (kind == Activation::identity) return;
  for (int64_t i = 0; i < count; i += W) {
    const vec g = load(delta + i);
    vec out;
    if (kind == Activation::relu)
      out = relu_slope(load(value + i), g);
    else if (kind == Activation::leaky_relu)
      out = load(value + i) > 0.0f ? g : g * slope;
    else
      out = g * load(slopes + i);
    store(delta + i, out);
  }
}
