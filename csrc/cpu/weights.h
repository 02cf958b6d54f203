// Weights in the order that the tile kernels read them, with a norm of fixed statistics folded in, and the way back for
// gradients.
#pragma once

#include <cmath>
#include <vector>

#include "job.h"
#include "memory.h"

namespace ncafast::cpu {

inline int32_t perception_size(const Rule& rule) {
  const int32_t seen = rule.dense ? rule.filters : rule.filters * rule.channels;
  return (rule.identity ? rule.channels : 0) + seen + rule.extra;
}

// Scale and shift per hidden unit that a norm with known mean and variance comes to: z -> scale * z + shift.
struct Fold {
  std::vector<double> scale, shift, inverse;  // inverse = 1 / sqrt(var + eps)
};

inline Fold fold_of(const Rule& rule, const Layer<const float>& layer, int64_t width, const double* mean,
                    const double* var) {
  Fold fold;
  for (int64_t h = 0; h < width; ++h) {
    const double inverse = 1.0 / std::sqrt(var[h] + rule.norm_eps);
    const double gamma = layer.norm_weight ? layer.norm_weight[h] : 1.0;
    const double beta = layer.norm_bias ? layer.norm_bias[h] : 0.0;
    fold.inverse.push_back(inverse);
    fold.scale.push_back(gamma * inverse);
    fold.shift.push_back(beta - gamma * inverse * mean[h]);
  }
  return fold;
}

class PackedWeights {
 public:
  PackedWeights(const Rule& rule, const Parameters<const float>& parameters, int width, int64_t taps)
      : rule_(rule), parameters_(parameters), width_(width), taps_(taps) {
    packed.channels = rule.channels;
    packed.filters = rule.dense ? 0 : rule.filters;
    packed.extra = rule.extra;
    packed.layers = rule.layers;
    packed.perception = perception_size(rule);
    packed.identity = rule.identity;
    packed.dense = rule.dense;
    packed.activation = rule.activation;
    packed.dense_activation = rule.dense_activation;
    packed.slope = rule.negative_slope;
    pack_filters();
    for (int layer = 0; layer < rule.layers; ++layer) pack_hidden(layer, Fold{});
    pack_update();
  }
  PackedWeights(const PackedWeights&) = delete;

  int32_t inputs(int layer) const { return layer ? rule_.hidden[layer - 1] : packed.perception; }

  // Packs a hidden layer, its norm folded in (an empty fold: none).
  void pack_hidden(int layer, const Fold& fold) {
    const Layer<const float>& from = parameters_.hidden[layer];
    const int64_t n = rule_.hidden[layer], k = inputs(layer);
    allocate(hidden_[layer], k, n);
    float *forward = hidden_[layer].forward.data(), *bias = hidden_[layer].bias.data();
    float* backward = hidden_[layer].backward.data();
    const int64_t np = round_up(n, width_), kp = round_up(k, width_);
    for (int64_t h = 0; h < n; ++h) {
      const double scale = fold.scale.empty() ? 1.0 : fold.scale[h];
      const double shift = fold.scale.empty() ? 0.0 : fold.shift[h];
      for (int64_t i = 0; i < k; ++i) {
        const float weight = static_cast<float>(scale * from.weight[h * k + i]);
        forward[i * np + h] = backward[h * kp + i] = weight;
      }
      bias[h] = static_cast<float>(scale * from.bias[h] + shift);
    }
    packed.hidden[layer] = view(hidden_[layer], k, n);
  }

  Packed packed{};

 private:
  struct Layer1x1 {
    Floats forward, bias, backward;
  };

  void allocate(Layer1x1& to, int64_t k, int64_t n) {
    if (to.forward.count()) return;
    to.forward = Floats(k * round_up(n, width_));
    to.bias = Floats(round_up(n, width_));
    to.backward = Floats(n * round_up(k, width_));
  }

  static Dense view(const Layer1x1& from, int64_t k, int64_t n) {
    return {static_cast<int32_t>(k), static_cast<int32_t>(n), from.forward.data(), from.bias.data(),
            from.backward.data()};
  }

  void pack_filters() {
    const int64_t c = rule_.channels, f = rule_.filters, cp = round_up(c, width_);
    if (rule_.dense) {
      allocate(conv_, taps_ * c, f);
      const int64_t np = round_up(f, width_), kp = round_up(taps_ * c, width_);
      for (int64_t o = 0; o < f; ++o) {
        conv_.bias[o] = parameters_.filter_bias ? parameters_.filter_bias[o] : 0.0f;
        for (int64_t i = 0; i < c; ++i)
          for (int64_t t = 0; t < taps_; ++t) {
            const float weight = parameters_.filters[(o * c + i) * taps_ + t];
            conv_.forward[(t * c + i) * np + o] = conv_.backward[o * kp + t * c + i] = weight;
          }
      }
      packed.conv = view(conv_, taps_ * c, f);
      return;
    }
    filters_ = Floats(taps_ * f * cp);
    filter_bias_ = Floats(f * cp);
    for (int64_t j = 0; j < f; ++j)
      for (int64_t i = 0; i < c; ++i) {
        if (parameters_.filter_bias) filter_bias_[j * cp + i] = parameters_.filter_bias[j * c + i];
        for (int64_t t = 0; t < taps_; ++t)
          filters_[(t * f + j) * cp + i] = parameters_.filters[(j * c + i) * taps_ + t];
      }
    packed.taps = filters_.data();
    packed.tap_bias = filter_bias_.data();
  }

  void pack_update() {
    const int64_t c = rule_.channels, k = rule_.hidden[rule_.layers - 1];
    allocate(update_, k, c);
    const int64_t cp = round_up(c, width_), kp = round_up(k, width_);
    for (int64_t m = 0; m < rule_.mutable_hi - rule_.mutable_lo; ++m) {
      const int64_t channel = rule_.mutable_lo + m;
      if (parameters_.update_bias) update_.bias[channel] = parameters_.update_bias[m];
      for (int64_t i = 0; i < k; ++i)
        update_.forward[i * cp + channel] = update_.backward[channel * kp + i] = parameters_.update_weight[m * k + i];
    }
    packed.update = view(update_, k, c);
  }

  const Rule& rule_;
  const Parameters<const float>& parameters_;
  const int64_t width_, taps_;
  Floats filters_, filter_bias_;
  Layer1x1 conv_, hidden_[max_hidden_layers], update_;
};

// One thread's sums of gradients: over some cells in float32, over all of them in float64. Float32 alone would lose
// digits where a million cells add up.
class SumMemory {
 public:
  SumMemory(const Rule& rule, int width, int64_t taps) {
    place(rule, width, taps);  // only counts: there is no memory yet
    memory_ = Floats(count_);
    totals_.assign(count_, 0.0);
    place(rule, width, taps);
  }

  // Says that `cells` more went into the sums, which go to the totals when it is time.
  void added(int64_t cells) {
    if ((cells_ += cells) >= most_cells) flush();
  }

  void flush() {
    for (int64_t i = 0; i < count_; ++i) totals_[i] += memory_[i];
    memory_.clear();
    cells_ = 0;
  }

  // The total that belongs to sum[0], sum being one of `sums`.
  double* total(const float* sum) { return totals_.data() + (sum - memory_.data()); }

  Sums sums{};

 private:
  static constexpr int64_t most_cells = 1024;

  void place(const Rule& rule, int width, int64_t taps) {
    const int64_t c = rule.channels, f = rule.filters, cp = round_up(c, width), outputs = round_up(f, width);
    count_ = 0;
    sums.taps = take(rule.dense ? 0 : taps * f * cp);
    sums.tap_bias = take(rule.dense ? 0 : f * cp);
    sums.conv = take(rule.dense ? round_up(taps * c, 24) * outputs : 0);
    sums.conv_bias = take(rule.dense ? outputs : 0);
    int64_t k = perception_size(rule);
    for (int layer = 0; layer < rule.layers; ++layer) {
      const int64_t n = round_up(rule.hidden[layer], width);
      sums.hidden[layer] = take(round_up(k, 24) * n);
      sums.hidden_bias[layer] = take(n);
      k = rule.hidden[layer];
    }
    sums.update = take(round_up(c, 24) * round_up(k, width));
    sums.update_bias = take(cp);
  }

  float* take(int64_t count) {
    const int64_t start = count_;
    count_ += round_up(count, max_width);
    return memory_.data() ? memory_.data() + start : nullptr;
  }

  Floats memory_;
  std::vector<double> totals_;
  int64_t count_ = 0, cells_ = 0;
};

}  // namespace ncafast::cpu
