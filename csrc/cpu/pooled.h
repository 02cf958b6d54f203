// Channels whose mean or largest value over a sample's cells every cell of it sees: one pass over the state before a
// step, and one over its gradient after the step's backward.
#pragma once

#include <cstdint>
#include <vector>

#include "grid.h"
#include "memory.h"
#include "rollout.h"

namespace ncafast::cpu {

class PooledChannels {
 public:
  PooledChannels(const Inputs& inputs, const GridTables& tables, int threads);

  // Takes them from a state [B, *S, C]; threads share the samples.
  void measure(const float* x);
  const float* at(int64_t sample) const { return values_.data() + sample * stride_; }

  // Where a thread adds up dL/d(pooled) of one band of a sample, [pooled]; `keep` then moves it to the sums.
  float* band(int thread) const { return bands_.data() + thread * stride_; }
  void keep(int thread, int64_t sample);
  // Adds what the sums, which start anew, come to in each cell of dL/dx, which is padded; x is what was measured last.
  void spread(const float* x, float* grad_x);

 private:
  template <class Work>
  void each_cell(int64_t sample, const Work& work) const;

  const Inputs& in_;
  const GridTables& tables_;
  const int threads_;
  const int64_t count_, stride_;
  Floats values_, bands_;                  // [B, stride], [threads, stride]
  std::vector<std::vector<double>> sums_;  // [threads, B * pooled]
};

}  // namespace ncafast::cpu
