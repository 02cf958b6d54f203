// The grid of one sample, its border, and its division into bands for threads.
#pragma once

#include <vector>

#include "job.h"

namespace ncafast::cpu {

// Geometry and the maps behind it.
class GridTables {
 public:
  GridTables(const Grid& grid, const Rule& rule);
  GridTables(const GridTables&) = delete;

  // Place of a cell in the padded grid.
  int64_t padded(int64_t z, int64_t y, int64_t x) const {
    const int32_t *r = geometry.radius, *n = geometry.padded;
    return ((z + r[0]) * n[1] + y + r[1]) * n[2] + x + r[2];
  }
  int64_t rows() const { return static_cast<int64_t>(geometry.size[0]) * geometry.size[1]; }
  // Place of the first cell of a row of the last axis.
  int64_t padded_row(int64_t row) const { return padded(row / geometry.size[1], row % geometry.size[1], 0); }

  // What a place of the padded grid along an axis shows: a place of the grid, or -1 for zeros.
  int32_t shown(int axis, int64_t padded_place) const { return place_[axis][padded_place]; }
  // The transpose of a border [batch, *padded, C] that shows cells of the grid: adds its values to theirs. The border
  // is spent afterwards.
  void fold_border(float* grads, int64_t batch, int threads) const;

  const Padding padding;
  Geometry geometry{};

  // A slice is one place of the outermost axis that has more than one cell: bands are made of whole slices.
  int axis = 0;
  int64_t slice_cells = 1, slice_padded = 1;  // its cells, without and with their border
  int64_t planes = 1;  // of the padded grid before that axis: 1 unless an axis of one cell has a border

 private:
  std::vector<int32_t> place_[3];  // [size + 2 radius] index along an axis, or -1
  std::vector<int64_t> offset_;
};

// A band of cells [begin, end) of one sample.
struct Band {
  int32_t begin, end;
};

// Bands of slices, each at least twice the filters' radius high: then the two bands beside one never reach the same
// cell.
std::vector<Band> make_bands(const GridTables& tables, int64_t batch, int threads);

// Units of work [first, last) of a sample.
struct Share {
  int64_t sample, first, last;
};

// All samples' units in order, divided evenly among threads: [threads] the shares of each.
std::vector<std::vector<Share>> divide(int64_t batch, int64_t per_sample, int threads);

// How many of the threads shorten a rollout.
int useful_threads(const Grid& grid, int threads);

}  // namespace ncafast::cpu
