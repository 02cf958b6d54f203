// What a rollout takes by each of its ways: the model that they are chosen by. Nanoseconds, of a step. All of it is
// estimated for an H100 or H200 and unverified on hardware.
#pragma once

#include <algorithm>

#include "../kinds.h"
#include "shape.h"

namespace ncafast::cuda {

constexpr double launch_time = 2000, grid_barrier_time = 1300, cluster_barrier_time = 400;

// FLOP/ns of one of 132 multiprocessors: TF32 and BF16 at 30 % of 495 and 990 TFLOP/s, three TF32 products a third of
// it, FFMA at 60 % of 67.
inline double product_rate(Precision precision) {
  switch (precision) {
    case Precision::ieee:
      return 305;
    case Precision::tf32:
      return 1125;
    case Precision::tf32x3:
      return 375;
    case Precision::bf16:
      return 2250;
  }
  unreachable();
}

// A cell through both layers on one multiprocessor, with half of the cells' work where half of them fire. Perception
// runs beside. MaxNCA at C = 16, H = 128: 7 ns in TF32.
inline double cell_time(const Shape& s, Precision precision, double fire_rate) {
  return fire_rate * 2 * s.hidden32 * (s.perception16 + s.channels8) / product_rate(precision);
}

// Places where all blocks of a step have to meet, its end among them; each is a launch, or a barrier.
inline int meetings(const Shape& s, const Alive& alive) { return 1 + (s.settles ? 1 + alive.pre : 0) + s.centred; }

// Every multiprocessor has at least one pass of 32 cells.
inline double step_time(const Shape& s, const Alive& alive, int multiprocessors, double cell, double meeting) {
  return meetings(s, alive) * meeting +
         cell * std::max(32.0, static_cast<double>(s.cells) * static_cast<double>(s.batch) / multiprocessors);
}

// So many clusters at once, the others after them. The alive mask has one meeting more, since it settles in place.
inline double chip_time(const Shape& s, const Alive& alive, int clusters, double cell) {
  const double rounds = static_cast<double>((s.batch + clusters - 1) / clusters);
  return rounds * ((meetings(s, alive) + s.settles) * cluster_barrier_time +
                   cell * std::max(32.0, static_cast<double>(s.box_cells)));
}

}  // namespace ncafast::cuda
