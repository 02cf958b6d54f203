// What forward and backward share: tables, packed weights, scratch per thread, and one step of the automaton.
#pragma once

#include <memory>
#include <vector>

#include "grid.h"
#include "job.h"
#include "memory.h"
#include "norm.h"
#include "pooled.h"
#include "weights.h"

namespace ncafast::cpu {

// What forward writes down of a step for backward. Null members are not wanted, or not there under this rule.
struct StepTape {
  float* mean;      // [sets, P] of the perception over the cells of a set, see norm.h
  float* second;    // [sets, P, P] central second moment
  uint8_t* life;    // [B, ceil(cells / 8)] bits: cells that the alive mask keeps or lets update
  uint8_t* inside;  // [B, rows, bit_bytes(line * C)] bits: numbers whose gradient passes the clamp
};

StepTape tape_at(const Rule& rule, const Grid& grid, uint8_t* tape, int64_t step);

// Inside the engine states are channels last and have a border, [B, P*, C] ("padded"); see grid.h.
class Engine {
 public:
  Engine(const Inputs& inputs, int threads);
  Engine(const Engine&) = delete;

  // next = one step from x, both padded; fills the tape, and `kept` [B, *S, C] with the same state unless it is null.
  void step(int64_t t, const float* x, float* next, const StepTape& tape, float* kept);
  // The same, with the moments taken from the tape instead of computed.
  void step_again(int64_t t, const float* x, float* next, const StepTape& tape);

  // Folds the measured norm of a step into the first hidden layer.
  void normalise(const StepTape& tape);
  std::vector<Fold> folds;  // [sets] of the last step that was normalised
  Moments moments_at(const StepTape& tape, int64_t set) const;

  // The cells of a band that fire and may matter; returns their number. `wanted` [cells] or null.
  int32_t list_cells(int64_t t, int64_t sample, const Band& band, const uint8_t* wanted, const Scratch& scratch) const;
  int32_t list_all(const Band& band, const Scratch& scratch) const;

  // A job for one sample of a step; pointers to states are set by the caller.
  Job job(int64_t t, int64_t sample) const;
  // Has what the filters give kept between the passes of a step.
  void keep_seen(Job& job, int64_t sample, bool known);

  // Room for a padded state, of which only the border is set, to zero.
  Floats padded_floats() const;
  // Between the layouts: [B, C, *S], [B, *S, C] and padded. Those that make a state fill its border.
  void pad_channels_first(const float* from, float* to) const;
  void pad_channels_last(const float* from, float* to) const;
  void cut_channels_first(const float* from, float* to) const;
  void cut_channels_last(const float* from, float* to) const;

  int64_t padded_place(int64_t cell) const;
  int64_t padded_sample() const { return geometry.padded_cells * inputs.rule.channels; }
  int64_t set_of(int64_t sample) const { return sets > 1 ? sample : 0; }
  int64_t cells_of_set() const {
    return has_batch_moments(inputs.rule.norm) ? inputs.grid.batch * geometry.cells : geometry.cells;
  }
  int64_t tasks() const { return inputs.grid.batch * static_cast<int64_t>(bands.size()); }

  const Inputs& inputs;
  const Kernels& kernels;
  const int threads;
  const GridTables tables;
  const Geometry& geometry;
  const int64_t sets;  // of samples that share a norm's mean and variance; 0: nothing is measured
  PackedWeights weights;
  const int32_t P;
  const std::vector<Band> bands;
  std::vector<Scratch> scratch;
  PooledChannels pooled;                                            // of the step at hand
  const bool alive, clears, restore, clamps, measures, keeps_seen;  // clears: dead cells become 0

 private:
  void run(int64_t t, const float* x, float* next, const StepTape& tape, bool measured, float* kept);
  void cut_band(int64_t sample, const Band& band, const float* padded, float* to) const;
  void measure(const float* x, int64_t t, const StepTape& tape);
  void start_shifts(const float* x);
  bool measure_about_shifts(const float* x, int64_t t, const StepTape& tape, std::vector<uint8_t>& wanted);
  bool take_moments(int64_t set, const std::vector<double>& sums, const StepTape& tape);
  void settle(const float* x, float* next, const StepTape& tape);
  void write_life(const std::vector<uint8_t>& life, const StepTape& tape) const;
  void living(const float* x, std::vector<uint8_t>& plane) const;
  float* floats(int64_t count);
  template <class Work>
  void each_row(const Work& work) const;

  std::vector<Floats> memory_;
  Floats seen_;  // [B, cells, F * C]
  std::vector<std::vector<uint8_t>> fired_, drawn_;
  std::vector<std::vector<Cell>> cells_;
  std::vector<uint32_t> moved_, touched_;
  std::vector<uint8_t> past_clamp_;         // [bit_bytes(line * C)] ones on the channels that are set back after it
  std::vector<std::vector<float>> shift_;   // [sets, Pp] about which moments are taken: the last step's mean
  std::vector<uint8_t> pre_, near_, life_;  // [B * cells] alive before the step; near such a cell; alive after it
};

int this_thread();

}  // namespace ncafast::cpu
