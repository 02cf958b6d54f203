// Layer norm between a hidden layer and its activation: every cell by itself, over its hidden units.
//
// With zh = (z - mean) s, s = 1 / sqrt(var + eps), and averages <> over the units: the norm gives zh weight + bias, and
// for d = dL/d(norm output) times weight, dL/dz = s (d - <d> - zh <d zh>).

NCAFAST_INLINE float sum_of(vec v) {
  alignas(vec) float lanes[W];
  store(lanes, v);
#pragma GCC unroll 4
  for (int n = W / 2; n > 0; n /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}

// z [count, Hs], 0 in the columns past the layer, becomes the norm's output; leaves zh and s.
static void through_layer_norm(const Packed& p, const Scratch& s, int layer, int count, float* z) {
  const LayerNorm& norm = p.norm[layer];
  const int64_t units = p.hidden[layer].outputs, width = round_up(units, W), ld = row_stride(units, W);
  for (int i = 0; i < count; ++i, z += ld) {
    float* normal = s.normal[layer] + i * ld;
    vec sum = vec{}, squares = vec{};
    for (int64_t n = 0; n < width; n += W) sum += load(z + n);
    const vec mean = all(sum_of(sum) / units);
    for (int64_t n = 0; n < width; n += W) {
      const vec away = load(z + n) - mean * load(norm.inside + n);
      squares += away * away;
      store(normal + n, away);
    }
    const float inverse = 1.0f / __builtin_sqrtf(sum_of(squares) / units + p.norm_eps);
    for (int64_t n = 0; n < width; n += W) {
      const vec value = load(normal + n) * inverse;
      store(normal + n, value);
      store(z + n, value * load(norm.weight + n) + load(norm.bias + n));
    }
    s.inverse[layer][i] = inverse;
  }
}

// delta [count, Hs] = dL/d(norm output) becomes dL/dz; adds to the sums of the norm's weight and bias.
static void back_through_layer_norm(const Packed& p, const Scratch& s, const Sums& sums, int layer, int count,
                                    float* delta) {
  const float* weight = p.norm[layer].weight;
  const int64_t units = p.hidden[layer].outputs, width = round_up(units, W), ld = row_stride(units, W);
  add_columns(count, width, delta, ld, sums.norm_bias[layer]);
  for (int i = 0; i < count; ++i, delta += ld) {
    const float* normal = s.normal[layer] + i * ld;
    float* own = sums.norm_weight[layer];
    vec sum = vec{}, along = vec{};
    for (int64_t n = 0; n < width; n += W) {
      const vec zh = load(normal + n), d = load(delta + n), scaled = d * load(weight + n);
      store(own + n, load(own + n) + d * zh);
      store(delta + n, scaled);
      sum += scaled;
      along += scaled * zh;
    }
    const float mean = sum_of(sum) / units, tilt = sum_of(along) / units, inverse = s.inverse[layer][i];
    for (int64_t n = 0; n < width; n += W)
      store(delta + n, inverse * (load(delta + n) - mean - load(normal + n) * tilt));
  }
}
