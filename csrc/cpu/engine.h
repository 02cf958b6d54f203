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
#include "window.h"

namespace ncafast::cpu {

// What forward writes down of a step for backward. Null members are not wanted, or not there under this rule.
struct StepTape {
  float* mean;      // [sets, P] of the perception over the cells of a set, see norm.h
  float* second;    // [sets, P, P] central second moment
  uint8_t* life;    // [B, ceil(cells / 8)] bits: cells that the alive mask keeps or lets update
  uint8_t* inside;  // [B, rows, bit_bytes(line * C)] bits: numbers whose gradient passes the clamp
};

StepTape tape_at(const Rule& rule, const Grid& grid, uint8_t* tape, int64_t step);

// Inside the engine states are channels last and have no border, [B, *S, C]; what a band's filters read is shown by a
// window. Gradients of states have a border, [B, P*, C] ("padded"); see grid.h.
class Engine {
 public:
  Engine(const Inputs& inputs, int threads);
  Engine(const Engine&) = delete;

  // next = one step from x, which may be the same memory; fills the tape.
  void step(int64_t t, const float* x, float* next, const StepTape& tape);
  // The same, with the moments taken from the tape instead of computed.
  void step_again(int64_t t, const float* x, float* next, const StepTape& tape);

  // Folds the measured norm of a step into the first hidden layer.
  void normalise(const StepTape& tape);
  std::vector<Fold> folds;  // [sets] of the last step that was normalised
  Moments moments_at(const StepTape& tape, int64_t set) const;

  // The cells of a band that fire and may matter, as a window shows them; returns their number. `wanted` [cells] or
  // null.
  int32_t list_cells(int64_t t, int64_t sample, const Band& band, const uint8_t* wanted, const Window& window,
                     const Scratch& scratch) const;
  int32_t list_all(const Band& band, const Window& window, const Scratch& scratch) const;

  // A job for one sample of a step; pointers to gradients are set by the caller.
  Job job(int64_t t, int64_t sample, const Window& window) const;

  // Has what the filters give kept between the passes of a step.
  void keep_seen(Job& job, int64_t sample, bool known) const;
  void make_room_for_seen();

  // [B, C, *S] to [B, *S, C], and back.
  void put_channels_last(const float* from, float* to) const;
  void put_channels_first(const float* from, float* to) const;

  // Runs work(sample, row, the place of its first cell in [B, *S]) on every row of every sample.
  template <class Work>
  void each_row(const Work& work) const;

  // Floats of a sample and of all samples, and of a sample with its border.
  int64_t sample_size() const { return geometry.cells * inputs.rule.channels; }
  int64_t size() const { return inputs.grid.batch * sample_size(); }
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
  std::vector<Scratch> scratch;  // a thread's, as are the windows
  std::vector<Window> windows;
  PooledChannels pooled;                                            // of the step at hand
  const bool alive, clears, restore, clamps, measures, keeps_seen;  // clears: dead cells become 0

 private:
  // Bands [first, last) of one sample, which one thread takes in this order.
  struct Run {
    int64_t sample, first, last;
    Floats before, after;  // see Edges
  };
  void make_runs();
  void keep_edges(const float* x);
  void run(int64_t t, const float* x, float* next, const StepTape& tape, bool measured);
  void measure(const float* x, int64_t t, const StepTape& tape);
  void start_shifts(const float* x);
  bool measure_about_shifts(const float* x, int64_t t, const StepTape& tape, std::vector<uint8_t>& wanted);
  bool take_moments(int64_t set, const std::vector<double>& sums, const StepTape& tape);
  void settle(float* next, const StepTape& tape, const float* restored, int64_t stride);
  void write_life(const std::vector<uint8_t>& life, const StepTape& tape) const;
  void living(const float* x, std::vector<uint8_t>& plane) const;
  float* floats(int64_t count);

  std::vector<Floats> memory_;
  std::vector<std::vector<Run>> runs_;  // [threads]
  Floats seen_;                         // [B, cells, F * C]
  Floats restored_;                     // [B, cells, channels that are set back] before a step in place
  std::vector<std::vector<uint8_t>> fired_, drawn_;
  std::vector<std::vector<uint32_t>> pairs_;
  std::vector<std::vector<Cell>> cells_;
  std::vector<uint32_t> moved_, touched_;
  std::vector<uint8_t> past_clamp_;         // [bit_bytes(line * C)] ones on the channels that are set back after it
  std::vector<std::vector<float>> shift_;   // [sets, Pp] about which moments are taken: the last step's mean
  std::vector<uint8_t> pre_, near_, life_;  // [B * cells] alive before the step; near such a cell; alive after it
};

template <class Work>
void Engine::each_row(const Work& work) const {
  const int64_t rows = tables.rows(), line = geometry.size[2], batch = inputs.grid.batch;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < batch * rows; ++i) work(i / rows, i % rows, i * line);
}

int this_thread();

}  // namespace ncafast::cpu
