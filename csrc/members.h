// Members: rollouts of one rule, size and plan that run side by side, each with tensors of its own. One call runs them
// all, and each gives what it would give alone.
#pragma once

#include <cstdint>
#include <vector>

#include "rollout.h"

namespace ncafast::cpu {

// The arguments of forward and backward in rollout.h, for one member.
struct ForwardMember {
  Inputs inputs;
  float *out, *history, *stats;
  uint8_t* tape;
};

struct BackwardMember {
  Inputs inputs;
  const float* history;
  uint8_t* tape;
  const float *grad_out, *grad_history;
  Gradients gradients;
};

void forward(const std::vector<ForwardMember>& members, int threads);
void backward(const std::vector<BackwardMember>& members, int threads);

}  // namespace ncafast::cpu
