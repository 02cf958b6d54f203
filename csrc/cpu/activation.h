// Activations in place, and their derivatives for backward. Tiles are [rows, Np] with rows * Np a multiple of W.

template <class Function>
NCAFAST_INLINE void each(int64_t count, float* values, Function function) {
  for (int64_t i = 0; i < count; ++i) values[i] = function(values[i]);
}

static void activate(Activation kind, float slope, int64_t count, float* z) {
  switch (kind) {
    case Activation::relu:
      for (int64_t i = 0; i < count; i += W) {
        const vec v = load(z + i);
        store(z + i, v > 0.0f ? v : (v != v ? v : vec{}));  // a NaN stays one
      }
      break;
    case Activation::leaky_relu:
      for (int64_t i = 0; i < count; i += W) {
        const vec v = load(z + i);
        store(z + i, v > 0.0f ? v : v * slope);
      }
      break;
    case Activation::elu:
      each(count, z, [](float v) { return v > 0.0f ? v : expm1f(v); });
      break;
    case Activation::gelu:
      each(count, z, [](float v) { return 0.5f * v * (1.0f + erff(v * 0.70710678f)); });
      break;
    case Activation::silu:
      each(count, z, [](float v) { return v / (1.0f + expf(-v)); });
      break;
    case Activation::tanh:
      each(count, z, [](float v) { return tanhf(v); });
      break;
    case Activation::identity:
      break;
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
      for (int64_t i = 0; i < count; ++i) slopes[i] = z[i] > 0.0f ? 1.0f : expf(z[i]);
      break;
    case Activation::gelu:
      for (int64_t i = 0; i < count; ++i) {
        const float density = 0.39894228f * expf(-0.5f * z[i] * z[i]);
        slopes[i] = 0.5f * (1.0f + erff(z[i] * 0.70710678f)) + z[i] * density;
      }
      break;
    case Activation::silu:
      for (int64_t i = 0; i < count; ++i) {
        const float s = 1.0f / (1.0f + expf(-z[i]));
        slopes[i] = s * (1.0f + z[i] * (1.0f - s));
      }
      break;
    case Activation::tanh:
      for (int64_t i = 0; i < count; ++i) {
        const float t = tanhf(z[i]);
        slopes[i] = 1.0f - t * t;
      }
      break;
    default:
      break;
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
      out = load(value + i) > 0.0f ? g : vec{};
    else if (kind == Activation::leaky_relu)
      out = load(value + i) > 0.0f ? g : g * slope;
    else
      out = g * load(slopes + i);
    store(delta + i, out);
  }
}
