// One block's sums of the MLP's gradients, in the widths of the padded arrays.
#pragma once

#include "shape.h"

namespace ncafast::cuda {

struct Slab {
  int64_t first, first_bias;    // dW1 [hidden32, perception16] and db1 [hidden32], side by side
  int64_t update, update_bias;  // dW2 [hidden32, channels8], db2 [channels8]
  int64_t layer, count;         // floats of the first layer's part, and of all

  NCAFAST_HOST_DEVICE explicit Slab(const Shape& s) {
    first = 0;
    first_bias = int64_t{s.hidden32} * s.perception16;
    update = layer = first_bias + s.hidden32;
    update_bias = update + int64_t{s.hidden32} * s.channels8;
    count = update_bias + s.channels8;
  }
};

}  // namespace ncafast::cuda
