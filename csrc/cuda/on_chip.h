// Rollouts on chip, on the host: whether and how a sample is cut into parts; see on_chip.cuh.
#pragma once

#include "life.cuh"
#include "rollout.h"

namespace ncafast::cuda {

struct ChipPlan {
  Shape shape;
  BlockSize block;
  unsigned parts;  // blocks of a cluster; 0: a rollout cannot be on chip here
  int clusters;    // that are on the device at once
};

// The cut that ends soonest by the model of ways.h.
ChipPlan chip_plan(const Inputs& inputs, const Place& place);

void run_on_chip(const ChipPlan& plan, const Stepper& stepper, const Turns& turns, const Life& life);

}  // namespace ncafast::cuda
