// Windows on a state; see window.h.
#include "window.h"

#include <algorithm>
#include <cstring>

namespace ncafast::cpu {
namespace {

// A window slides over bytes like these before what it still shows is moved to its start.
constexpr int64_t slide = 1 << 16;

int64_t room_of(const GridTables& tables, int64_t most_slices, int64_t slice_bytes) {
  const int64_t all = tables.geometry.padded[tables.axis];
  if (tables.planes > 1) return all;  // neighbours of other planes stand where they stand in the padded sample
  return std::min(all, most_slices + 2 * tables.geometry.radius[tables.axis] + slide / slice_bytes);
}

}  // namespace

Window::Window(const GridTables& tables, int64_t most_slices)
    : tables_(tables),
      floats_(tables.slice_padded * tables.geometry.channels),
      room_(room_of(tables, most_slices, 4 * floats_)) {}

void Window::show(const float* sample, const Band& band, const Edges* edges) {
  if (!memory_.count()) memory_ = Floats(tables_.planes * room_ * floats_);  // by the thread that will use it
  const int64_t first = band.begin / tables_.slice_cells;
  const int64_t end = band.end / tables_.slice_cells + 2 * tables_.geometry.radius[tables_.axis];
  if (sample != sample_ || first < begin_ || first > end_) {
    sample_ = sample;
    base_ = tables_.planes > 1 ? 0 : first;
    end_ = first;
  }
  begin_ = first;
  if (end - base_ > room_) {
    std::memmove(memory_.data(), memory_.data() + (first - base_) * floats_, 4 * (end_ - first) * floats_);
    base_ = first;
  }
  while (end_ < end) end_ += load(end_, end, edges);
}

// Reads a slice, or as many as lie side by side; returns their number.
int64_t Window::load(int64_t slice, int64_t end, const Edges* edges) {
  const float* from = source(slice, edges);
  float* to = memory_.data() + (slice - base_) * floats_;
  if (tables_.planes == 1 && tables_.slice_padded == tables_.slice_cells && from) {
    int64_t count = 1;
    while (slice + count < end && source(slice + count, edges) == from + count * floats_) ++count;
    std::memcpy(to, from, 4 * count * floats_);
    return count;
  }
  for (int64_t plane = 0; plane < tables_.planes; ++plane, to += room_ * floats_) {
    // Zeros of a border between cells are never written over.
    if (tables_.padding == Padding::zeros && plane != tables_.planes / 2) continue;
    if (from)
      spread(from, to);
    else
      std::memset(to, 0, 4 * floats_);
  }
  return 1;
}

// The cells of a slice, or null for zeros.
const float* Window::source(int64_t slice, const Edges* edges) const {
  const int64_t cells = tables_.slice_cells * tables_.geometry.channels, r = tables_.geometry.radius[tables_.axis];
  const int32_t shown = tables_.shown(tables_.axis, slice);
  if (shown < 0) return nullptr;
  if (edges && slice < edges->first + r) return edges->before + (slice - edges->first) * cells;
  if (edges && slice >= edges->last + r) return edges->after + (slice - edges->last - r) * cells;
  return sample_ + shown * cells;
}

// A slice's cells and the border around them, where that is not zero.
void Window::spread(const float* from, float* to) const {
  const Geometry& g = tables_.geometry;
  const int64_t C = g.channels, line = g.padded[2] * C;
  if (tables_.axis == 2) {
    std::memcpy(to, from, 4 * C);
    return;
  }
  const bool filled = tables_.padding != Padding::zeros;
  const int64_t rows = tables_.axis == 0 ? g.size[1] : 1, above = tables_.axis == 0 ? g.radius[1] : 0;
  for (int64_t y = 0; y < rows; ++y) {
    float* row = to + (above + y) * line;
    std::memcpy(row + g.radius[2] * C, from + y * g.size[2] * C, 4 * g.size[2] * C);
    for (int64_t x = 0; filled && x < g.radius[2]; ++x)
      for (const int64_t at : {x, g.radius[2] + g.size[2] + x})
        std::memcpy(row + at * C, from + (y * g.size[2] + tables_.shown(2, at)) * C, 4 * C);
  }
  for (int64_t y = 0; filled && y < rows + 2 * above; ++y)
    if (y < above || y >= above + rows) std::memcpy(to + y * line, to + (above + tables_.shown(1, y)) * line, 4 * line);
}

}  // namespace ncafast::cpu
