// The fire mask on the CPU: which cells of a range update in one step.
#include "philox.h"
#include "rollout.h"

namespace ncafast::cpu {
namespace {

// Cells one thread draws at a stretch; a multiple of four, so that no block is drawn twice.
constexpr int64_t run_cells = 1 << 14;

void draw_run(uint8_t* mask, int64_t first_cell, int64_t end_cell, uint32_t sample, uint64_t seed, uint32_t step,
              uint64_t fire_limit) {
  for (int64_t cell = first_cell; cell < end_cell;) {
    const Block block = draw(seed, Stream::fire, sample, step, static_cast<uint64_t>(cell) / 4);
    do {
      *mask++ = block.word[cell % 4] < fire_limit;
    } while (++cell % 4 != 0 && cell < end_cell);
  }
}

}  // namespace

void fire_mask(uint8_t* mask, int64_t first_sample, int64_t batch, int64_t first_cell, int64_t cells, uint64_t seed,
               uint32_t step, uint64_t fire_limit) {
  // Runs start at multiples of run_cells in the whole grid, wherever the range starts.
  const int64_t end_cell = first_cell + cells;
  const int64_t first_run = first_cell / run_cells;
  const int64_t runs = cells > 0 ? (end_cell - 1) / run_cells - first_run + 1 : 0;
#pragma omp parallel for schedule(static) if (batch * runs > 1)
  for (int64_t task = 0; task < batch * runs; ++task) {
    const int64_t sample = task / runs;
    const int64_t run_start = (first_run + task % runs) * run_cells;
    const int64_t start = run_start > first_cell ? run_start : first_cell;
    const int64_t end = run_start + run_cells < end_cell ? run_start + run_cells : end_cell;
    draw_run(mask + sample * cells + (start - first_cell), start, end, static_cast<uint32_t>(first_sample + sample),
             seed, step, fire_limit);
  }
}

}  // namespace ncafast::cpu
