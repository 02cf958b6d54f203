// Sizes on the host; see shape.h.
#include <algorithm>

#include "../kinds.h"
#include "device.h"
#include "shape.h"

namespace ncafast::cuda {
namespace {

int halo_cells(const Shape& s, const int (&box)[3]) {
  int cells = 1;
  for (int a = 0; a < 3; ++a) cells *= box[a] + 2 * s.radius[a];
  return cells;
}

// Doubles the shortest side of the box, the innermost first, until it holds enough cells or the grid, or shows more
// than `most_shown` with its surroundings.
void grow_box(const Shape& s, const int (&size)[3], int cells, int64_t most_shown, int (&box)[3]) {
  box[0] = box[1] = box[2] = 1;
  for (int count = 1; count < cells; count *= 2) {
    int axis = -1;
    for (int a = 2; a >= 0; --a)
      if (box[a] < size[a] && (axis < 0 || box[a] < box[axis])) axis = a;
    if (axis < 0) return;
    box[axis] *= 2;
    if (halo_cells(s, box) > most_shown) {
      box[axis] /= 2;
      return;
    }
  }
}

void choose_box(Shape& s, int cells) {
  int wide[3], most[3];
  for (int a = 0; a < 3; ++a) wide[a] = s.size[a] > 1 || s.radius[a] > 0 ? cells : 1;
  grow_box(s, wide, cells, INT64_MAX, most);
  grow_box(s, s.size, cells, halo_cells(s, most), s.box);
}

// What follows from the box.
void set_tiles(Shape& s) {
  s.box_cells = s.box[0] * s.box[1] * s.box[2];
  s.halo_cells = halo_cells(s, s.box);
  s.sample_tiles = 1;
  for (int a = 0; a < 3; ++a) {
    s.halo[a] = s.box[a] + 2 * s.radius[a];
    s.tiles[a] = (s.size[a] + s.box[a] - 1) / s.box[a];
    s.sample_tiles *= s.tiles[a];
    s.by_box[a] = divisor(s.box[a]);
    s.by_halo[a] = divisor(s.halo[a]);
    s.by_tiles[a] = divisor(s.tiles[a]);
  }
  s.by_sample_tiles = divisor(s.sample_tiles);
  s.all_tiles = s.sample_tiles * s.batch;
}

// All but the tiles.
Shape untiled(const Rule& rule, const Grid& grid) {
  Shape s{};
  s.channels = rule.channels;
  s.channels4 = round_up_int(rule.channels, 4);
  s.by_quads = divisor(s.channels4 / 4);
  s.channels8 = rule.channels <= 16 ? 16 : round_up_int(rule.channels, 32);
  s.filters = rule.dense ? 0 : rule.filters;
  s.dense = rule.dense ? rule.filters : 0;
  s.extra = rule.extra;
  s.own = rule.identity ? rule.channels : 0;
  s.perception = s.own + s.filters * rule.channels + s.dense + rule.extra;
  s.perception16 = round_up_int(s.perception, 16);
  s.perception_row = s.perception16 + 4;
  s.hidden = rule.hidden[0];
  s.hidden32 = round_up_int(rule.hidden[0], 32);
  s.hidden_row = s.hidden32 + 8;
  s.taps = 1;
  s.cells = 1;
  s.batch = grid.batch;
  for (int a = 0; a < 3; ++a) {
    s.kernel[a] = rule.filters ? rule.kernel[a] : 1;
    s.radius[a] = s.kernel[a] / 2;
    s.taps *= s.kernel[a];
    s.size[a] = static_cast<int>(grid.size[a]);
    s.cells *= grid.size[a];
  }
  s.mutable_lo = rule.mutable_lo;
  s.mutable_hi = rule.mutable_hi;
  s.restore_lo = rule.restore_lo;
  s.restore_hi = rule.restore_hi;
  s.padding = rule.padding;
  s.activation = rule.activation;
  s.slope = slope_of(rule.activation, rule.negative_slope);
  s.scale = rule.update_scale;
  s.centred = has_batch_moments(rule.norm);
  s.settles = rule.alive.channel >= 0;
  for (int c = s.mutable_lo; c < s.mutable_hi && c < most_state_channels; ++c) {
    s.touched |= static_cast<uint64_t>(!restored(s, c)) << c;
    s.moved |= static_cast<uint64_t>(s.settles || !restored(s, c)) << c;
  }
  return s;
}

}  // namespace

float slope_of(Activation activation, float negative_slope) {
  switch (activation) {
    case Activation::relu:
      return 0.0f;
    case Activation::identity:
      return 1.0f;
    case Activation::leaky_relu:
    case Activation::elu:  // this one and the rest never ask
    case Activation::gelu:
    case Activation::silu:
    case Activation::tanh:
      return negative_slope;
  }
  unreachable();
}

Shape make_shape(const Rule& rule, const Grid& grid, int cells) {
  Shape s = untiled(rule, grid);
  choose_box(s, cells);
  set_tiles(s);
  return s;
}

Shape make_parts(const Rule& rule, const Grid& grid, int parts) {
  Shape s = untiled(rule, grid), best{};
  const auto cut = [&](int axis, int pieces) { s.box[axis] = (s.size[axis] + pieces - 1) / pieces; };
  for (int z = 1; z <= parts && z <= s.size[0]; ++z)
    for (int y = 1; y <= parts / z && y <= s.size[1]; ++y) {
      cut(0, z);
      cut(1, y);
      cut(2, std::min(parts / z / y, s.size[2]));
      set_tiles(s);
      const bool smaller = s.box_cells < best.box_cells;
      if (!best.all_tiles || smaller || (s.box_cells == best.box_cells && s.halo_cells < best.halo_cells)) best = s;
    }
  return best;
}

}  // namespace ncafast::cuda
