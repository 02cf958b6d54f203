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

  // Sets the border of [batch, *padded, C] to zero, and touches nothing else.
  void clear_border(float* states, int64_t batch, int threads) const;
  // Gives the border [batch, *padded, C] the values that the padding means; under zero padding it must hold zeros
  // already and is left alone.
  void fill_border(float* states, int64_t batch, int threads) const;
  // The transpose: adds the border's values to the cells they came from. The border is spent afterwards.
  void fold_border(float* grads, int64_t batch, int threads) const;

  Geometry geometry{};

 private:
  const Padding padding_;
  std::vector<int32_t> place_[3];  // [size + 2 radius] index along an axis
  std::vector<int64_t> offset_;
};

// A band of cells [begin, end) of one sample. Bands of one colour can be worked on at the same time although each also
// adds to the gradient of its neighbours' cells.
struct Band {
  int32_t begin, end;
  int32_t colour;
};

constexpr int colours = 2;

// Bands along the outermost axis that has more than one cell, each at least twice the filters' radius high: then two
// bands of one colour never reach the same cell.
std::vector<Band> make_bands(const Geometry& g, int64_t batch, int threads);

}  // namespace ncafast::cpu
