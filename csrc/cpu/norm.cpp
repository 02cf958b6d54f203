// Norms with measured moments; see norm.h.
//
// A hidden unit z = w y + b is linear in the perception y, so its mean m and variance follow from the mean ym and the
// central second moment G of y: m = w ym + b, v = w G w^T. Over a group of units, mean = <m> and var = <v + (m -
// mean)^2>.
//
// Backward, sums over all cells are needed before the gradient of the perception is known. With da = dL/d(norm output)
// on the fired cells, s = 1 / sqrt(var + eps), N cells in the set, n = N times the units of a group,
// E = sum da (y - ym)^T:
//   dbeta = sum da,  dgamma = s (w E + (m - mean) dbeta)
//   m1 = sum dbeta gamma / n,  m2 = sum dgamma gamma / n over the group,  k = s (m1 + s m2 (m - mean))
//   dy = W^T (gamma s da) on fired cells + A (y - ym) + c on every cell,  A = -W^T diag(s^2 m2) W,  c = -W^T k
//   dW = gamma s E + db ym^T - N diag(s^2 m2) W G,  db = gamma s dbeta - N k
#include "norm.h"

#include <algorithm>

namespace ncafast::cpu {
namespace {

// W times the second moment: [H, Pp].
Floats times_second_moment(const Layer<const float>& layer, int64_t H, int64_t P, const Kernels& kernels,
                           const float* second) {
  const int64_t Pp = round_up(P, kernels.width), rows = round_up(H, 24);
  Floats weight(rows * P), padded(P * Pp), product(rows * Pp);
  std::copy_n(layer.weight, H * P, weight.data());  // the kernel reads rows past the last
  for (int64_t i = 0; i < P; ++i) std::copy_n(second + i * P, P, padded.data() + i * Pp);
  kernels.matmul(H, Pp, P, weight.data(), P, 1, padded.data(), Pp, product.data(), Pp);
  return product;
}

// Of a hidden unit over the set's cells, without its bias.
double mean_of(const float* weight, const float* mean, int64_t P) {
  double sum = 0.0;
  for (int64_t i = 0; i < P; ++i) sum += static_cast<double>(weight[i]) * mean[i];
  return sum;
}

// Runs work(first, end) on every group of hidden units.
template <class Work>
void each_group(const Rule& rule, const Work& work) {
  const int64_t together = units_together(rule);
  for (int64_t h = 0; h < rule.hidden[0]; h += together) work(h, h + together);
}

}  // namespace

Fold fold_of_moments(const Rule& rule, const Layer<const float>& layer, const Kernels& kernels,
                     const Moments& moments) {
  const int64_t H = rule.hidden[0], P = perception_size(rule), Pp = round_up(P, kernels.width);
  const Floats product = times_second_moment(layer, H, P, kernels, moments.second);
  std::vector<double> mean(H), var(H);
  each_group(rule, [&](int64_t first, int64_t end) {
    const double units = static_cast<double>(end - first);
    double middle = 0.0, spread = 0.0;
    for (int64_t h = first; h < end; ++h) {
      const float* w = layer.weight + h * P;
      mean[h] = layer.bias[h] + mean_of(w, moments.mean, P);
      for (int64_t i = 0; i < P; ++i) var[h] += static_cast<double>(w[i]) * product[h * Pp + i];
      middle += mean[h] / units;
    }
    for (int64_t h = first; h < end; ++h) spread += (var[h] + (mean[h] - middle) * (mean[h] - middle)) / units;
    std::fill(mean.begin() + first, mean.begin() + end, middle);
    std::fill(var.begin() + first, var.begin() + end, std::max(spread, 0.0));
  });
  return fold_of(rule, layer, std::move(mean), std::move(var));
}

NormBack norm_back(const Rule& rule, const Layer<const float>& layer, const Kernels& kernels, const Moments& moments,
                   const Fold& fold, int64_t cells, const double* along, const double* sums) {
  const int64_t H = rule.hidden[0], P = perception_size(rule);
  const int64_t Hp = round_up(H, kernels.width), Pp = round_up(P, kernels.width), ld = round_up(P, 24);
  const double N = static_cast<double>(cells);
  const Floats product = times_second_moment(layer, H, P, kernels, moments.second);
  NormBack back;
  back.weight.resize(H * P);
  back.bias.resize(H);
  back.norm_weight.resize(H);
  back.norm_bias.assign(sums, sums + H);
  Floats scaled(round_up(H, 24) * ld), plain(H * Pp);
  std::vector<double> offset(P, 0.0), away(H);
  each_group(rule, [&](int64_t first, int64_t end) {
    const double n = N * static_cast<double>(end - first);
    double m1 = 0.0, m2 = 0.0;
    for (int64_t h = first; h < end; ++h) {
      const double gamma = layer.norm_weight ? layer.norm_weight[h] : 1.0;
      away[h] = layer.bias[h] + mean_of(layer.weight + h * P, moments.mean, P) - fold.mean[h];
      double inner = away[h] * sums[h];
      for (int64_t i = 0; i < P; ++i) inner += layer.weight[h * P + i] * along[i * Hp + h];
      back.norm_weight[h] = fold.inverse[h] * inner;
      m1 += sums[h] * gamma / n;
      m2 += back.norm_weight[h] * gamma / n;
    }
    for (int64_t h = first; h < end; ++h) {
      const float* w = layer.weight + h * P;
      const double s = fold.inverse[h], k = s * (m1 + s * m2 * away[h]);
      back.bias[h] = fold.scale[h] * sums[h] - N * k;
      for (int64_t i = 0; i < P; ++i) {
        back.weight[h * P + i] =
            fold.scale[h] * along[i * Hp + h] + back.bias[h] * moments.mean[i] - N * s * s * m2 * product[h * Pp + i];
        scaled[h * ld + i] = static_cast<float>(-s * s * m2 * w[i]);
        plain[h * Pp + i] = w[i];
        offset[i] -= k * w[i];
      }
    }
  });
  back.matrix = Floats(ld * Pp);
  back.offset = Floats(Pp);
  kernels.matmul(P, Pp, H, scaled.data(), 1, ld, plain.data(), Pp, back.matrix.data(), Pp);
  for (int64_t i = 0; i < P; ++i) back.offset[i] = static_cast<float>(offset[i]);
  return back;
}

}  // namespace ncafast::cpu
