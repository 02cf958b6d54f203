// Where a rollout's states lie: in the history where they are kept. The others take turns in two places, one of the
// workspace and `out`, which the last step overwrites with the final state in the caller's layout, read from the other.
#pragma once

#include "shape.h"

namespace ncafast::cuda {

template <class T>
struct TurnsOf {
  const T* x;
  T *out, *spare, *history;
  Plan plan;

  // Whether the state after so many steps is kept.
  NCAFAST_HOST_DEVICE bool keeps(int64_t number) const {
    return plan.every && number % plan.every == 0 && number / plan.every <= plan.kept;
  }

  NCAFAST_HOST_DEVICE States<T> after(const Shape& s, int64_t number) const {
    if (keeps(number)) return channels_last(history + (number / plan.every - 1) * (s.batch * s.cells * s.channels), s);
    if (number == plan.steps) return channels_first(out, s);
    return channels_last((plan.steps - number) % 2 ? spare : out, s);
  }

  NCAFAST_HOST_DEVICE States<const T> before(const Shape& s, int64_t step) const {
    return step == 0 ? channels_first(x, s) : read_only(after(s, step));
  }
};

using Turns = TurnsOf<float>;

}  // namespace ncafast::cuda
