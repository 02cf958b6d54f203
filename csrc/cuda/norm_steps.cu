// All steps under batch norm in one launch, on the host: step_kernel with `norms`. It has instances for narrow rules
// only, MaxNCA's and Med-NCA's among them: those for wide ones took three times as long to compile.
#include "../kinds.h"
#include "launches.h"
#include "step.cuh"

namespace ncafast::cuda {
namespace {

bool is_narrow(const Shape& s) { return s.channels8 == 16 && s.perception16 <= 8 * narrow_blocks8; }

}  // namespace

NormSteps plan_norm_steps(const Inputs& in, const Place& place) {
  NormSteps plan{};
  if (!has_batch_moments(in.rule.norm) || !is_narrow(make_shape(in.rule, in.grid, 1))) return plan;
  // No more tiles than multiprocessors: a block is alone on its own.
  const int64_t all = in.grid.batch * in.grid.size[0] * in.grid.size[1] * in.grid.size[2];
  int cells = 32;
  while (cells < max_box && all > int64_t{cells} * place.multiprocessors) cells *= 2;
  for (; cells >= 32 && plan.block.bytes == 0; cells /= 2) {
    const BlockSize size{cells, moment_threads, 0};
    plan.block = choose_block(&size, 1, shared_memory_limit(), [&](const BlockSize& of) {
      Arena arena(nullptr);
      StepMemory(make_shape(in.rule, in.grid, of.cells), of.threads, arena);
      return arena.bytes();
    });
  }
  if (plan.block.bytes == 0) return plan;
  plan.shape = make_shape(in.rule, in.grid, plan.block.cells);
  with_precision(place.precision, [&](auto precision) {
    plan.blocks = resident(step_kernel<precision(), 2, true>, place, plan.block, plan.shape.all_tiles);
  });
  return plan;
}

void launch_norm_steps(const NormSteps& plan, const Place& place, const Step& step) {
  with_precision(place.precision, [&](auto precision) {
    launch_cooperative(step_kernel<precision(), 2, true>, dim3(plan.blocks),
                       dim3(static_cast<unsigned>(plan.block.threads)), static_cast<size_t>(plan.block.bytes),
                       place.stream, step);
  });
}

}  // namespace ncafast::cuda
