// Borders and bands; see grid.h.
#include "grid.h"

#include <algorithm>
#include <cstring>

namespace ncafast::cpu {
namespace {

int32_t neighbour(int32_t i, int32_t n, Padding padding) {
  if (i >= 0 && i < n) return i;
  switch (padding) {
    case Padding::reflect:
      return i < 0 ? -i : 2 * (n - 1) - i;
    case Padding::circular:
      return (i % n + n) % n;
    case Padding::zeros:
      return -1;
    case Padding::replicate:
      return i < 0 ? 0 : n - 1;
  }
  unreachable();
}

void add(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

GridTables::GridTables(const Grid& grid, const Rule& rule) : padding(rule.padding) {
  geometry.cells = geometry.padded_cells = 1;
  geometry.taps = 1;
  geometry.channels = rule.channels;
  for (int a = 0; a < 3; ++a) {
    const int32_t n = static_cast<int32_t>(grid.size[a]), r = rule.filters ? rule.kernel[a] / 2 : 0;
    geometry.size[a] = n;
    geometry.radius[a] = r;
    geometry.padded[a] = n + 2 * r;
    geometry.cells *= n;
    geometry.padded_cells *= n + 2 * r;
    geometry.taps *= 2 * r + 1;
    for (int32_t i = -r; i < n + r; ++i) place_[a].push_back(neighbour(i, n, rule.padding));
  }
  const int32_t *r = geometry.radius, *n = geometry.padded;
  for (int64_t z = -r[0]; z <= r[0]; ++z)
    for (int64_t y = -r[1]; y <= r[1]; ++y)
      for (int64_t x = -r[2]; x <= r[2]; ++x) offset_.push_back(((z * n[1] + y) * n[2] + x) * rule.channels);
  geometry.offset = offset_.data();
  while (axis < 2 && geometry.size[axis] == 1) planes *= n[axis++];
  for (int a = axis + 1; a < 3; ++a) {
    slice_cells *= geometry.size[a];
    slice_padded *= n[a];
  }
}

void GridTables::fold_border(float* grads, int64_t batch, int threads) const {
  const Geometry& g = geometry;
  if (padding == Padding::zeros || g.taps == 1) return;
  const int64_t C = g.channels, line = g.padded[2] * C, plane = g.padded[1] * line;
  if (g.radius[0]) {
    // Several border planes may go to one plane: each thread takes its own lines of all of them.
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < batch * g.padded[1]; ++i) {
      float* lines = grads + i / g.padded[1] * g.padded_cells * C + i % g.padded[1] * line;
      for (int64_t z = 0; z < g.padded[0]; ++z)
        if (z < g.radius[0] || z >= g.size[0] + g.radius[0])
          add(lines + z * plane, lines + (place_[0][z] + g.radius[0]) * plane, line);
    }
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < batch * g.size[0]; ++i) {
    float* sample = grads + i / g.size[0] * g.padded_cells * C;
    const int64_t z = i % g.size[0];
    for (int64_t y = 0; y < g.padded[1]; ++y)
      if (y < g.radius[1] || y >= g.size[1] + g.radius[1])
        add(sample + padded(z, y - g.radius[1], -g.radius[2]) * C, sample + padded(z, place_[1][y], -g.radius[2]) * C,
            line);
    for (int64_t y = 0; y < g.size[1]; ++y) {
      float* row = sample + padded(z, y, -g.radius[2]) * C;
      for (int64_t x = 0; x < g.padded[2]; ++x)
        if (x < g.radius[2] || x >= g.size[2] + g.radius[2])
          add(row + x * C, row + (place_[2][x] + g.radius[2]) * C, C);
    }
  }
}

std::vector<Band> make_bands(const GridTables& tables, int64_t batch, int threads) {
  const Geometry& g = tables.geometry;
  const int64_t slices = g.size[tables.axis], cells = tables.slice_cells;
  // About 1000 cells fill the tiles and stay in the L2 cache; on small grids fewer, so that threads have work.
  const int64_t share = g.cells * batch / (8 * threads);
  const int64_t wanted = std::max<int64_t>(1, std::clamp<int64_t>(share, 128, 1024) / cells);
  const int64_t height = std::max<int64_t>(wanted, 2 * g.radius[tables.axis]);
  int64_t count = std::max<int64_t>(1, slices / height);
  // As many pairs for each thread, which backward takes, where that costs no more than a few bands.
  const int64_t even = 2 * threads;
  if (count * batch % even != 0 && count > even) count = count / even * even;
  const auto start = [&](int64_t i) { return i * slices / count; };
  std::vector<Band> bands;
  for (int64_t i = 0; i < count; ++i)
    bands.push_back({static_cast<int32_t>(start(i) * cells), static_cast<int32_t>(start(i + 1) * cells)});
  return bands;
}

std::vector<std::vector<Share>> divide(int64_t batch, int64_t per_sample, int threads) {
  std::vector<std::vector<Share>> shares(threads);
  for (int i = 0; i < threads; ++i) {
    const int64_t end = batch * per_sample * (i + 1) / threads;
    for (int64_t unit = batch * per_sample * i / threads; unit < end;) {
      const int64_t sample = unit / per_sample, first = unit % per_sample;
      const int64_t last = std::min(per_sample, first + end - unit);
      shares[i].push_back({sample, first, last});
      unit += last - first;
    }
  }
  return shares;
}

// (AVX2, EPYC 25-1, 2026-11-29, a step on two threads against one: 12^2 cells 1.03 to 1.23 times as long, 16^2 cells
// 0.85 to 1.02 times.)
int useful_threads(const Grid& grid, int threads) {
  constexpr int64_t worth_two = 256;
  return grid.batch * grid.size[0] * grid.size[1] * grid.size[2] < worth_two ? 1 : threads;
}

}  // namespace ncafast::cpu
