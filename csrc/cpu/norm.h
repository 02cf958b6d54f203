// Norms whose mean and variance are measured on the current state: what they are taken over, and the way back through
// them.
//
// A set is the samples that share a mean and variance: the whole batch under batch norm, one sample under group and
// instance norm. Under group norm a group of hidden units shares them too.
#pragma once

#include <vector>

#include "job.h"
#include "memory.h"
#include "weights.h"

namespace ncafast::cpu {

// 0 where nothing is measured.
inline int64_t sets_of(const Rule& rule, const Grid& grid) {
  return has_batch_moments(rule.norm) ? 1 : has_sample_moments(rule.norm) ? grid.batch : 0;
}

// Hidden units that share a mean and variance.
inline int64_t units_together(const Rule& rule) {
  return rule.norm == Norm::group ? rule.hidden[0] / rule.norm_groups : 1;
}

// Of the perception over the cells of a set.
struct Moments {
  const float* mean;    // [P]
  const float* second;  // [P, P] central second moment
};

// Scale and shift of the first hidden layer's norm in a set.
Fold fold_of_moments(const Rule& rule, const Layer<const float>& layer, const Kernels& kernels, const Moments& moments);

// What a step's norm comes to backward in a set.
struct NormBack {
  std::vector<double> weight, bias;            // [H, P], [H] gradients of the first hidden layer
  std::vector<double> norm_weight, norm_bias;  // [H] gradients of the norm
  // [Pp, P] transposed and [Pp]: dL/dy += matrix (y - mean) + offset on every cell.
  Floats matrix, offset;
};

// `along` [P, Hp] and `sums` [Hp] are the sums of da (y - mean)^T and da over the set's cells; `cells` their number.
NormBack norm_back(const Rule& rule, const Layer<const float>& layer, const Kernels& kernels, const Moments& moments,
                   const Fold& fold, int64_t cells, const double* along, const double* sums);

}  // namespace ncafast::cpu
