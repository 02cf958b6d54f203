// Rollouts on chip, on the host; see on_chip.cuh.
#include "../kinds.h"
#include "launches.h"
#include "on_chip.cuh"
#include "on_chip.h"
#include "ways.h"

namespace ncafast::cuda {
namespace {

constexpr int most_parts = 8;                     // blocks of a cluster that every GPU with clusters has
constexpr int64_t most_cells = int64_t{1} << 19;  // of a sample; more do not fit, whatever the rule

template <Precision precision>
auto chip_kernel_of(const Shape& s) {
  return s.channels8 == 16 ? chip_kernel<precision, 2> : chip_kernel<precision, 4>;
}

// As many threads as a part has rows of a pass for, where memory allows: the block is alone on its multiprocessor.
BlockSize chip_block(const Shape& s, double fire_rate) {
  const int rows = std::max(64, round_up_int(static_cast<int>(s.box_cells * fire_rate), 32));
  for (const int most : {chip_threads, chip_threads / 2, 64}) {
    const BlockSize size{s.box_cells, std::min(rows, most), 0};
    const BlockSize chosen = choose_block(&size, 1, shared_memory_limit(), [&](const BlockSize& of) {
      Arena arena(nullptr);
      ChipMemory(s, of.threads, arena);
      return arena.bytes();
    });
    if (chosen.bytes > 0) return chosen;
  }
  return {0, 0, 0};
}

}  // namespace

// Model, with C = 16 and H = 128 in TF32: 32 samples of 28^2 on 4 blocks each take 1.8 us a step, in a cooperative
// launch 2.7 and step by step 3.4; growing NCA's 8 x 72^2 with an alive mask 6.3 against 6.2 and 8.3. Unverified on
// hardware.
ChipPlan chip_plan(const Inputs& in, const Place& place) {
  ChipPlan best{};
  if (compute_capability() < 90 || has_batch_moments(in.rule.norm) || in.grid.batch == 0) return best;
  const double fire_rate = fire_rate_of(in.rule);
  double best_time = 0;
  for (int parts = 1; parts <= most_parts; ++parts) {
    ChipPlan plan{make_parts(in.rule, in.grid, parts), {}, 0, 0};
    const Shape& s = plan.shape;
    if (s.cells == 0 || s.cells > most_cells) return best;
    plan.block = chip_block(s, fire_rate);
    if (plan.block.bytes == 0) continue;
    plan.parts = static_cast<unsigned>(s.sample_tiles);
    with_precision(place.precision, [&](auto precision) {
      plan.clusters = active_clusters(chip_kernel_of<precision()>(s), plan.parts, plan.block.threads,
                                      static_cast<size_t>(plan.block.bytes));
    });
    if (plan.clusters == 0) continue;
    const double time = chip_time(s, in.rule.alive, plan.clusters, cell_time(s, place.precision, fire_rate));
    if (best.parts == 0 || time < best_time) {
      best = plan;
      best_time = time;
    }
  }
  return best;
}

void run_on_chip(const ChipPlan& plan, const Stepper& stepper, const Turns& turns, const Life& life) {
  const Shape& s = plan.shape;
  with_precision(stepper.place.precision, [&](auto precision) {
    launch_cluster(chip_kernel_of<precision()>(s), plan.parts, dim3(static_cast<unsigned>(s.all_tiles)),
                   dim3(static_cast<unsigned>(plan.block.threads)), static_cast<size_t>(plan.block.bytes),
                   stepper.place.stream,
                   OnChip{s, activity_of(stepper.inputs, 0, nullptr), stepper.weights, stepper.extra(0), life, turns,
                          stepper.inputs.fire.step_stride});
  });
}

}  // namespace ncafast::cuda
