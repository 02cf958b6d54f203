#include "pooled.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "job.h"

namespace ncafast::cpu {

PooledChannels::PooledChannels(const Inputs& inputs, const GridTables& tables, int threads)
    : in_(inputs),
      tables_(tables),
      threads_(threads),
      count_(inputs.rule.pooled_hi - inputs.rule.pooled_lo),
      stride_(round_up(count_, max_width)),
      values_(inputs.grid.batch * stride_),
      bands_(threads * stride_),
      sums_(threads, std::vector<double>(inputs.grid.batch * count_)) {}

// Runs work(offset of the first pooled channel in a state, the same in a padded one) on every cell of a sample.
template <class Work>
void PooledChannels::each_cell(int64_t sample, const Work& work) const {
  const int64_t C = in_.rule.channels, line = in_.grid.size[2], lo = in_.rule.pooled_lo;
  const Geometry& g = tables_.geometry;
  for (int64_t row = 0; row < tables_.rows(); ++row) {
    const int64_t plain = sample * g.cells + row * line, padded = sample * g.padded_cells + tables_.padded_row(row);
    for (int64_t i = 0; i < line; ++i) work((plain + i) * C + lo, (padded + i) * C + lo);
  }
}

void PooledChannels::measure(const float* x) {
  if (!count_) return;
#pragma omp parallel for num_threads(threads_) schedule(static)
  for (int64_t b = 0; b < in_.grid.batch; ++b) {
    float* to = values_.data() + b * stride_;
    if (in_.rule.pools_max) {
      std::fill_n(to, count_, -std::numeric_limits<float>::infinity());
      each_cell(b, [&](int64_t at, int64_t) {
        for (int64_t q = 0; q < count_; ++q) {
          const float value = x[at + q];
          if (value > to[q] || value != value) to[q] = value;  // nothing is above a NaN, which stays
        }
      });
      continue;
    }
    std::vector<double> sums(count_);
    each_cell(b, [&](int64_t at, int64_t) {
      for (int64_t q = 0; q < count_; ++q) sums[q] += x[at + q];
    });
    for (int64_t q = 0; q < count_; ++q) to[q] = static_cast<float>(sums[q] / tables_.geometry.cells);
  }
}

void PooledChannels::keep(int thread, int64_t sample) {
  for (int64_t q = 0; q < count_; ++q)
    sums_[thread][sample * count_ + q] += std::exchange(bands_[thread * stride_ + q], 0.0f);
}

void PooledChannels::spread(const float* x, float* grad_x) {
  if (!count_) return;
#pragma omp parallel for num_threads(threads_) schedule(static)
  for (int64_t b = 0; b < in_.grid.batch; ++b) {
    std::vector<double> share(count_);
    for (std::vector<double>& sums : sums_)  // in the order of the threads
      for (int64_t q = 0; q < count_; ++q) share[q] += std::exchange(sums[b * count_ + q], 0.0);
    const float* largest = at(b);
    std::vector<int64_t> cells(count_, tables_.geometry.cells);
    if (in_.rule.pools_max) {
      std::fill(cells.begin(), cells.end(), 0);
      each_cell(b, [&](int64_t at, int64_t) {
        for (int64_t q = 0; q < count_; ++q) cells[q] += x[at + q] == largest[q];
      });
    }
    for (int64_t q = 0; q < count_; ++q) share[q] /= static_cast<double>(cells[q]);  // no cell has a NaN: NaN
    each_cell(b, [&](int64_t at, int64_t padded) {
      for (int64_t q = 0; q < count_; ++q)
        if (!in_.rule.pools_max || x[at + q] == largest[q]) grad_x[padded + q] += static_cast<float>(share[q]);
    });
  }
}

}  // namespace ncafast::cpu
