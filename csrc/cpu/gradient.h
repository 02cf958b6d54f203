// dL/dx of a state, which a step backward turns in place into that of the state before it.
//
// It has a border, [B, P*, C], where what cells give to their neighbours goes; see grid.h.
#pragma once

#include <vector>

#include "engine.h"

namespace ncafast::cpu {

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

  // Keeps what bands of the second colour would find changed by those of the first.
  void keep_edges();
  // dL/dx of the cells that a band has listed, before anything was given to them; [cells, C].
  const float* read(int64_t sample, int64_t band, const Window& window, const Cell* cells, int32_t count);

  void fold_border() { engine_.tables.fold_border(memory_.data(), engine_.inputs.grid.batch, engine_.threads); }
  float* data() const { return memory_.data(); }

 private:
  float* kept(int64_t sample, int64_t band) const;

  const Engine& engine_;
  const int64_t line_;  // floats of a padded row
  const int64_t edge_;  // floats of the slices at one end of a band that its neighbour reaches
  Floats memory_;
  Floats edges_;              // [B, bands of the second colour, 2, edge]
  std::vector<Floats> read_;  // [threads] a band's cells, C
};

}  // namespace ncafast::cpu
