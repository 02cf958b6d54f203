// The grid of one sample: what neighbours a cell has, and its division into bands for threads.
#pragma once

#include <algorithm>
#include <vector>

#include "job.h"

namespace ncafast::cpu {

inline int32_t neighbour(int32_t i, int32_t n, Padding padding) {
  if (i >= 0 && i < n) return i;
  switch (padding) {
    case Padding::zeros:
      return -1;
    case Padding::reflect:
      return i < 0 ? -i : 2 * (n - 1) - i;
    case Padding::replicate:
      return i < 0 ? 0 : n - 1;
    default:
      return (i % n + n) % n;
  }
}

class GridTables {
 public:
  GridTables(const Grid& grid, const Rule& rule) {
    geometry.cells = 1;
    geometry.taps = 1;
    geometry.channels = rule.channels;
    for (int a = 0; a < 3; ++a) {
      const int32_t n = static_cast<int32_t>(grid.size[a]), k = rule.filters ? rule.kernel[a] : 1;
      geometry.size[a] = n;
      geometry.kernel[a] = k;
      geometry.radius[a] = k / 2;
      geometry.cells *= n;
      geometry.taps *= k;
      for (int32_t i = -(k / 2); i < n + k / 2; ++i) place_[a].push_back(neighbour(i, n, rule.padding));
      geometry.place[a] = place_[a].data();
    }
    const int32_t* n = geometry.size;
    const int32_t* r = geometry.radius;
    for (int32_t z = 0; z < n[0]; ++z)
      for (int32_t y = 0; y < n[1]; ++y) inner_.push_back(z >= r[0] && z < n[0] - r[0] && y >= r[1] && y < n[1] - r[1]);
    for (int32_t z = -r[0]; z <= r[0]; ++z)
      for (int32_t y = -r[1]; y <= r[1]; ++y)
        for (int32_t x = -r[2]; x <= r[2]; ++x)
          offset_.push_back(((static_cast<int64_t>(z) * n[1] + y) * n[2] + x) * rule.channels);
    geometry.inner = inner_.data();
    geometry.offset = offset_.data();
  }
  GridTables(const GridTables&) = delete;

  Geometry geometry;

 private:
  std::vector<int32_t> place_[3];
  std::vector<uint8_t> inner_;
  std::vector<int64_t> offset_;
};

// A band of cells [begin, end) of one sample. Bands of one colour can be worked on at the same time although each also
// writes to the gradient of its neighbours' cells.
struct Band {
  int32_t begin, end;
  int32_t colour;
};

constexpr int colours = 3;

// Bands along the outermost axis that has more than one cell, each at least twice the filters' radius high: then two
// bands of one colour never reach the same cell. Around a circular axis an odd last band has a colour of its own.
inline std::vector<Band> make_bands(const Geometry& g, Padding padding, int64_t batch, int threads) {
  int axis = 0;
  while (axis < 2 && g.size[axis] == 1) ++axis;
  const int64_t units = g.size[axis], unit_cells = g.cells / units;
  // About 1000 cells fill the tiles and stay in the L2 cache; on small grids fewer, so that threads have work.
  const int64_t share = g.cells * batch / (8 * threads);
  const int64_t wanted = std::max<int64_t>(1, std::clamp<int64_t>(share, 128, 1024) / unit_cells);
  const int64_t height = std::max<int64_t>(wanted, 2 * g.radius[axis]);
  const int64_t count = std::max<int64_t>(1, units / height);
  std::vector<Band> bands;
  for (int64_t i = 0; i < count; ++i) {
    const bool seam = padding == Padding::circular && count % 2 == 1 && count > 1 && i == count - 1;
    bands.push_back({static_cast<int32_t>(i * units / count * unit_cells),
                     static_cast<int32_t>((i + 1) * units / count * unit_cells),
                     seam ? 2 : static_cast<int32_t>(i % 2)});
  }
  return bands;
}

}  // namespace ncafast::cpu
