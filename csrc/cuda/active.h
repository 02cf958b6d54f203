// Which cells a step moves, as kernels are told; see active.cuh.
#pragma once

#include <cstdint>

namespace ncafast::cuda {

// A step's random draw or mask, and which cells may be active at all.
struct Activity {
  const uint64_t* seed;  // null where nothing is drawn
  const uint8_t* mask;   // [B or 1, *S] of this step, null where none was handed in
  int64_t mask_sample;
  const uint8_t* wanted;  // [B, *S], null: all
  uint64_t limit;
  uint32_t step;
  uint32_t first_sample;
};

}  // namespace ncafast::cuda
