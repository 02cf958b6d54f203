// The clamp of the state, as the drivers see it: whether there is one, and channels that are set back after it.
#pragma once

#include <cmath>
#include <vector>

#include "job.h"

namespace ncafast::cpu {

inline bool has_clamp(const Rule& rule) { return std::isfinite(rule.clamp.lo) || std::isfinite(rule.clamp.hi); }

// [bit_bytes(line * C)] bits of a row of cells: ones on channels [lo, hi).
inline std::vector<uint8_t> bits_of_channels(const Geometry& g, int32_t lo, int32_t hi) {
  std::vector<uint8_t> bits(bit_bytes(int64_t{g.size[2]} * g.channels));
  for (int64_t cell = 0; cell < g.size[2]; ++cell)
    for (int64_t i = cell * g.channels + lo; i < cell * g.channels + hi; ++i)
      bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | 1 << i % 8);
  return bits;
}

}  // namespace ncafast::cpu
