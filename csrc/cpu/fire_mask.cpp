// Fire masks on the CPU: which cells of a range, or of a part of a grid, update.
#include <algorithm>

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

void fire_masks(uint8_t* mask, int64_t steps, uint64_t seed, int64_t first_step, int64_t first_sample,
                uint64_t fire_limit, const Grid& grid) {
  const int64_t *size = grid.size, *whole = grid.whole, *origin = grid.origin;
  const auto wrapped = [&](int axis, int64_t at) {
    const int64_t place = (origin[axis] + at) % whole[axis];
    return place < 0 ? place + whole[axis] : place;
  };
  const int64_t rows = size[0] * size[1];
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < steps * grid.batch * rows; ++task) {
    const int64_t t = task / rows / grid.batch, sample = task / rows % grid.batch, row = task % rows;
    const int64_t line = (wrapped(0, row / size[1]) * whole[1] + wrapped(1, row % size[1])) * whole[2];
    for (int64_t x = 0; x < size[2];) {
      const int64_t first = wrapped(2, x), cells = std::min(whole[2] - first, size[2] - x);
      draw_run(mask + task * size[2] + x, line + first, line + first + cells,
               static_cast<uint32_t>(first_sample + sample), seed, static_cast<uint32_t>(first_step + t), fire_limit);
      x += cells;
    }
  }
}

}  // namespace ncafast::cpu
