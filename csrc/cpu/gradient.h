// dL/dx of a state, which a step backward turns in place into that of the state before it.
//
// It has a border, [B, P*, C], where what cells give to their neighbours goes; see grid.h.
//
// A band also gives to the cells of its neighbours. One thread takes a run of bands in their order; where a sample is
// divided, a thread's last band waits until all others are done.
#pragma once

#include <vector>

#include "engine.h"
#include "memory.h"

namespace ncafast::cpu {

// Bands [first, last) of a sample, at least two of them if other runs lie beside it.
struct BackwardRun {
  int64_t sample, first, last;
  bool last_waits;
  Floats changed[2];  // dL/dx_(t+1) at the start of the band to come, and at the end of the last one: [edge, C]
};

std::vector<std::vector<BackwardRun>> backward_runs(const Engine& engine);  // [threads]

class Gradient {
 public:
  // `spreads_early`: bands give to their neighbours before all bands have read what they need.
  Gradient(const Engine& engine, bool spreads_early);

  // From and to [B, C, *S].
  void set(const float* from);
  void clear() { memory_.clear(); }
  void add(const float* from);
  void get(float* to) const;

  // Of a band's cells in the first sample on: [P*, C], as a window at this origin sees it.
  float* at(int64_t sample, const Window& window) const {
    return memory_.data() + sample * engine_.padded_sample() + window.origin() * engine_.inputs.rule.channels;
  }
  // A row of the padded grid, counted over all samples.
  float* row(int64_t number) const { return memory_.data() + number * line_; }

  // Keeps what the last band of a run would find changed by the next run.
  void keep_end(BackwardRun& run) const;
  // dL/dx of the cells that a band of a run has listed, before anything was given to them; [cells, C]. Bands are read
  // in their order; what the next one would find changed by this one is kept.
  const float* read(BackwardRun& run, int64_t band, const Window& window, const Cell* cells, int32_t count);

  void fold_border() { engine_.tables.fold_border(memory_.data(), engine_.inputs.grid.batch, engine_.threads); }
  float* data() const { return memory_.data(); }

 private:
  void keep(int64_t sample, int32_t begin, Floats& to) const;

  const Engine& engine_;
  const int64_t line_;  // floats of a padded row
  const int32_t edge_;  // cells at one end of a band that its neighbour reaches too early
  Floats memory_;
  std::vector<Floats> read_;  // [threads] a band's cells, C
};

}  // namespace ncafast::cpu
