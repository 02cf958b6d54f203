// A rollout backward, stretch by stretch: from a kept state on the others up to the next kept one are computed again,
// then the steps of the stretch go back.
#pragma once

#include <algorithm>
#include <utility>

#include "rollout.h"

namespace ncafast::cuda {

// Steps of a stretch.
inline int64_t stretch_of(const Plan& plan) { return plan.every ? plan.every : std::max<int64_t>(plan.steps, 1); }

// States of a stretch that are computed again, all but the first.
inline int64_t states_between(const Plan& plan) {
  return plan.steps > 0 ? std::min(stretch_of(plan), plan.steps) - 1 : 0;
}

// What is kept of the forward pass, and where its gradient comes from; null where there is none.
template <class T>
struct Kept {
  const T *history, *grad_out, *grad_history;
};

// g[0] = dL/dx_0. `steps` has change_layout. `again(t, x, to)` computes x_(t+1); `back(t, x)` turns dL/dx_(t+1) in g[0]
// into dL/dx_t in g[1]. `between` holds `states_between` states.
template <class T, class Steps, class Again, class Back>
void go_back(const Inputs& in, const Steps& steps, const Shape& s, const Kept<T>& kept, T* between, T* (&g)[2],
             void* stream, Again again, Back back) {
  const Plan& plan = in.plan;
  const int64_t every = stretch_of(plan), count = s.batch * s.cells * s.channels;
  if (kept.grad_out)
    steps.change_layout(channels_first(kept.grad_out, s), channels_last(g[0], s), false);
  else
    memset_async(g[0], 0, sizeof(T) * static_cast<size_t>(count), stream);
  for (int64_t start = (plan.steps - 1) / every * every; start >= 0 && plan.steps; start -= every) {
    const int64_t end = std::min(start + every, plan.steps);
    const auto state = [&](int64_t t) {
      if (t > start) return channels_last<const T>(between + (t - start - 1) * count, s);
      return start == 0 ? channels_first(static_cast<const T*>(in.x), s)
                        : channels_last(kept.history + (start / every - 1) * count, s);
    };
    for (int64_t t = start; t + 1 < end; ++t) again(t, state(t), channels_last(between + (t - start) * count, s));
    for (int64_t t = end - 1; t >= start; --t) {
      const int64_t number = t + 1;
      if (kept.grad_history && plan.every && number % plan.every == 0 && number / plan.every <= plan.kept)
        steps.change_layout(channels_first(kept.grad_history + (number / plan.every - 1) * count, s),
                            channels_last(g[0], s), true);
      back(t, state(t));
      std::swap(g[0], g[1]);
    }
  }
}

}  // namespace ncafast::cuda
