// Weights in the order that the tile kernels read them, with a norm of fixed statistics folded in, and the way back for
// gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "job.h"
#include "memory.h"

namespace ncafast::cpu {

inline int32_t perception_size(const Rule& rule) {
  const int32_t seen = rule.dense ? rule.filters : rule.filters * rule.channels;
  return (rule.identity ? rule.channels : 0) + seen + rule.extra + rule.pooled_hi - rule.pooled_lo;
}

// Scale and shift per hidden unit that a norm with known mean and variance comes to: z -> scale * z + shift.
struct Fold {
  std::vector<double> mean, var;
  std::vector<double> scale, shift, inverse;  // inverse = 1 / sqrt(var + eps)
};

inline Fold fold_of(const Rule& rule, const Layer<const float>& layer, std::vector<double> mean,
                    std::vector<double> var) {
  Fold fold;
  for (size_t h = 0; h < mean.size(); ++h) {
    const double inverse = 1.0 / std::sqrt(var[h] + rule.norm_eps);
    const double gamma = layer.norm_weight ? layer.norm_weight[h] : 1.0;
    const double beta = layer.norm_bias ? layer.norm_bias[h] : 0.0;
    fold.inverse.push_back(inverse);
    fold.scale.push_back(gamma * inverse);
    fold.shift.push_back(beta - gamma * inverse * mean[h]);
  }
  fold.mean = std::move(mean);
  fold.var = std::move(var);
  return fold;
}

class PackedWeights {
 public:
  // `in_pairs`: the MLP's weights also in bfloat16.
  PackedWeights(const Rule& rule, const Parameters<const float>& parameters, int width, int64_t taps, int64_t sets,
                bool in_pairs)
      : packed(std::max<int64_t>(sets, 1)),
        rule_(rule),
        parameters_(parameters),
        width_(width),
        taps_(taps),
        in_pairs_(in_pairs),
        centres_(packed.size()),
        first_(packed.size()) {
    Packed& one = packed.front();
    one.channels = rule.channels;
    one.filters = rule.dense ? 0 : rule.filters;
    one.extra = rule.extra;
    one.pooled = rule.pooled_hi - rule.pooled_lo;
    one.layers = rule.layers;
    one.perception = perception_size(rule);
    one.identity = rule.identity;
    one.dense = rule.dense;
    one.activation = rule.activation;
    one.dense_activation = rule.dense_activation;
    one.update_activation = rule.update_activation;
    one.slope = rule.negative_slope;
    one.layer_norm = has_cell_moments(rule.norm);
    one.norm_eps = rule.norm_eps;
    pack_filters(one);
    for (int layer = 0; layer < rule.layers; ++layer) {
      pack_hidden(layer, Fold{});
      if (one.layer_norm) pack_norm(one, layer);
    }
    pack_update(one);
    std::fill(packed.begin() + 1, packed.end(), one);
  }
  PackedWeights(const PackedWeights&) = delete;

  int32_t inputs(int layer) const { return layer ? rule_.hidden[layer - 1] : perception_size(rule_); }

  // Packs a hidden layer, its norm folded in (an empty fold: none).
  void pack_hidden(int layer, const Fold& fold) {
    packed.front().hidden[layer] = pack_layer(layer, fold, nullptr, layer ? hidden_[layer] : first_.front());
  }

  // Packs the first hidden layer of a set for a perception of which `mean` [P] is taken off. Where a unit's mean is
  // large beside its spread, scale * (w y + b) + shift would lose the digits in which the cells differ.
  void pack_first(const Fold& fold, const float* mean, int64_t set) {
    Floats& centre = centres_[set];
    if (!centre.count()) centre = Floats(round_up(inputs(0), width_));
    std::copy_n(mean, inputs(0), centre.data());
    packed[set].centre = centre.data();
    packed[set].hidden[0] = pack_layer(0, fold, mean, first_[set]);
  }

  // One for each set of samples that shares a norm's mean and variance (see norm.h), otherwise one for all: they differ
  // in the first hidden layer.
  std::vector<Packed> packed;

 private:
  struct Layer1x1 {
    Floats forward, bias, backward;
    std::vector<uint32_t> forward_pairs, backward_pairs;
  };

  Dense pack_layer(int layer, const Fold& fold, const float* mean, Layer1x1& to) {
    const Layer<const float>& from = parameters_.hidden[layer];
    const int64_t n = rule_.hidden[layer], k = inputs(layer);
    allocate(to, k, n);
    float *forward = to.forward.data(), *backward = to.backward.data(), *bias = to.bias.data();
    const int64_t ns = row_stride(n, width_), ks = row_stride(k, width_);
    for (int64_t h = 0; h < n; ++h) {
      const double scale = fold.scale.empty() ? 1.0 : fold.scale[h];
      const double shift = fold.scale.empty() ? 0.0 : fold.shift[h];
      double middle = from.bias[h];
      for (int64_t i = 0; i < k; ++i) {
        const float weight = static_cast<float>(scale * from.weight[h * k + i]);
        forward[i * ns + h] = backward[h * ks + i] = weight;
        if (mean) middle += static_cast<double>(from.weight[h * k + i]) * mean[i];
      }
      bias[h] = static_cast<float>(scale * middle + shift);
    }
    return view(to, k, n);
  }

  // To nearest, ties to even; a NaN stays one.
  static uint32_t bfloat16(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    if (value != value) return word >> 16 | 0x40;
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16;
  }

  void pack_pairs(const Floats& from, int64_t rows, int64_t columns, std::vector<uint32_t>& to) const {
    if (!in_pairs_) return;
    to.assign((rows + 1) / 2 * columns, 0);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) to[i / 2 * columns + j] |= bfloat16(from[i * columns + j]) << 16 * (i % 2);
  }

  void allocate(Layer1x1& to, int64_t k, int64_t n) {
    if (to.forward.count()) return;
    to.forward = Floats(k * row_stride(n, width_));
    to.bias = Floats(round_up(n, width_));
    to.backward = Floats(n * row_stride(k, width_));
  }

  Dense view(Layer1x1& from, int64_t k, int64_t n) const {
    pack_pairs(from.forward, k, row_stride(n, width_), from.forward_pairs);
    pack_pairs(from.backward, n, row_stride(k, width_), from.backward_pairs);
    return {static_cast<int32_t>(k),
            static_cast<int32_t>(n),
            {from.forward.data(), from.forward_pairs.data()},
            from.bias.data(),
            {from.backward.data(), from.backward_pairs.data()}};
  }

  void pack_filters(Packed& to) {
    const int64_t c = rule_.channels, f = rule_.filters, cp = round_up(c, width_);
    if (rule_.dense) {
      allocate(conv_, taps_ * c, f);
      const int64_t ns = row_stride(f, width_), ks = row_stride(taps_ * c, width_);
      for (int64_t o = 0; o < f; ++o) {
        conv_.bias[o] = parameters_.filter_bias ? parameters_.filter_bias[o] : 0.0f;
        for (int64_t i = 0; i < c; ++i)
          for (int64_t t = 0; t < taps_; ++t) {
            const float weight = parameters_.filters[(o * c + i) * taps_ + t];
            conv_.forward[(t * c + i) * ns + o] = conv_.backward[o * ks + t * c + i] = weight;
          }
      }
      to.conv = view(conv_, taps_ * c, f);
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
    to.taps = filters_.data();
    to.tap_bias = filter_bias_.data();
  }

  void pack_norm(Packed& to, int layer) {
    const Layer<const float>& from = parameters_.hidden[layer];
    const int64_t n = rule_.hidden[layer], np = round_up(n, width_);
    Floats& norm = norms_[layer] = Floats(3 * np);
    for (int64_t h = 0; h < n; ++h) {
      norm[h] = from.norm_weight ? from.norm_weight[h] : 1.0f;
      norm[np + h] = from.norm_bias ? from.norm_bias[h] : 0.0f;
      norm[2 * np + h] = 1.0f;
    }
    to.norm[layer] = {norm.data(), norm.data() + np, norm.data() + 2 * np};
  }

  void pack_update(Packed& to) {
    const int64_t c = rule_.channels, k = rule_.hidden[rule_.layers - 1];
    allocate(update_, k, c);
    const int64_t cs = row_stride(c, width_), ks = row_stride(k, width_);
    for (int64_t m = 0; m < rule_.mutable_hi - rule_.mutable_lo; ++m) {
      const int64_t channel = rule_.mutable_lo + m;
      if (parameters_.update_bias) update_.bias[channel] = parameters_.update_bias[m];
      for (int64_t i = 0; i < k; ++i)
        update_.forward[i * cs + channel] = update_.backward[channel * ks + i] = parameters_.update_weight[m * k + i];
    }
    to.update = view(update_, k, c);
  }

  const Rule& rule_;
  const Parameters<const float>& parameters_;
  const int64_t width_, taps_;
  const bool in_pairs_;
  Floats filters_, filter_bias_, norms_[max_hidden_layers];
  std::vector<Floats> centres_;  // of each set
  std::vector<Layer1x1> first_;  // the first hidden layer of each set
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

  // Adds a sum to `totals`, and starts it anew.
  static void move(float* sum, int64_t count, double* totals) {
    for (int64_t i = 0; i < count; ++i) totals[i] += std::exchange(sum[i], 0.0f);
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
      sums.norm_weight[layer] = take(has_cell_moments(rule.norm) ? n : 0);
      sums.norm_bias[layer] = take(has_cell_moments(rule.norm) ? n : 0);
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
