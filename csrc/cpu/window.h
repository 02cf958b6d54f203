// What a thread sees of a state: a band's slices and those that its filters reach, with the border that the padding
// means. States themselves have no border, [B, *S, C]; see grid.h for slices.
#pragma once

#include "grid.h"
#include "memory.h"

namespace ncafast::cpu {

// Copies of the slices beside a run of bands [first, last) of a sample, for a step in place: by the time that they are
// wanted another thread may have taken them a step further.
struct Edges {
  int64_t first, last;
  const float *before, *after;  // [radius, slice_cells, C]
};

class Window {
 public:
  Window(const GridTables& tables, int64_t most_slices);  // of a band

  // Shows a band of a sample [*S, C]. Slices that it shows already are not read again; those beyond the run that
  // `edges` belong to come from there.
  void show(const float* sample, const Band& band, const Edges* edges = nullptr);
  // Has everything read anew, once the memory behind it has changed.
  void forget() { sample_ = nullptr; }

  const float* data() const { return memory_.data(); }
  // Place of its first cell in the padded sample.
  int64_t origin() const { return base_ * tables_.slice_padded; }

 private:
  int64_t load(int64_t slice, int64_t end, const Edges* edges);
  const float* source(int64_t slice, const Edges* edges) const;
  void spread(const float* from, float* to) const;

  const GridTables& tables_;
  const int64_t floats_;  // of a slice, border included
  const int64_t room_;    // slices
  Floats memory_;         // [planes, room, slice_padded, C]
  const float* sample_ = nullptr;
  int64_t base_ = 0, begin_ = 0, end_ = 0;  // the first slice that there is room for; those that are shown
};

}  // namespace ncafast::cpu
