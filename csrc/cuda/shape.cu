// Sizes on the host; see shape.h.
#include <algorithm>

#include "device.h"
#include "shape.h"

namespace ncafast::cuda {
namespace {

// Doubles the shortest side of the box, the innermost first, until it holds enough cells or the grid.
void choose_box(Shape& s, int cells) {
  s.box[0] = s.box[1] = s.box[2] = 1;
  for (s.box_cells = 1; s.box_cells < cells; s.box_cells *= 2) {
    int axis = -1;
    for (int a = 2; a >= 0; --a)
      if (s.box[a] < s.size[a] && (axis < 0 || s.box[a] < s.box[axis])) axis = a;
    if (axis < 0) break;
    s.box[axis] *= 2;
  }
}

}  // namespace

Shape make_shape(const Rule& rule, const Grid& grid, int cells) {
  Shape s{};
  s.channels = rule.channels;
  s.channels4 = round_up_int(rule.channels, 4);
  s.channels8 = rule.channels <= 16 ? 16 : round_up_int(rule.channels, 32);
  s.filters = rule.filters;
  s.extra = rule.extra;
  s.own = rule.identity ? rule.channels : 0;
  s.perception = s.own + rule.filters * rule.channels + rule.extra;
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
  choose_box(s, cells);
  s.halo_cells = 1;
  s.sample_tiles = 1;
  for (int a = 0; a < 3; ++a) {
    s.halo[a] = s.box[a] + 2 * s.radius[a];
    s.halo_cells *= s.halo[a];
    s.tiles[a] = static_cast<int>((grid.size[a] + s.box[a] - 1) / s.box[a]);
    s.sample_tiles *= s.tiles[a];
  }
  s.all_tiles = s.sample_tiles * grid.batch;
  s.mutable_lo = rule.mutable_lo;
  s.mutable_hi = rule.mutable_hi;
  s.restore_lo = rule.restore_lo;
  s.restore_hi = rule.restore_hi;
  s.padding = rule.padding;
  s.activation = rule.activation;
  s.slope = rule.activation == Activation::relu       ? 0.0f
            : rule.activation == Activation::identity ? 1.0f
                                                      : rule.negative_slope;
  s.scale = rule.update_scale;
  s.centred = rule.norm == Norm::batch;
  s.settles = rule.alive.channel >= 0;
  return s;
}

}  // namespace ncafast::cuda
