// The alive mask: planes of bytes, one per cell, and their dilation.
#pragma once

#include <algorithm>
#include <vector>

#include "job.h"

namespace ncafast::cpu {

// to = whether any cell within the window along every axis is set; both [z, y, x] of one sample.
inline void dilate(const Geometry& g, const Alive& rule, const uint8_t* from, uint8_t* to,
                   std::vector<uint8_t>& spare) {
  const int reach = rule.pool / 2;
  std::copy_n(from, g.cells, to);
  int64_t inner = g.cells;  // cells of the present axis and those inside it
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t n = g.size[axis], stride = inner / n;
    spare.assign(to, to + g.cells);
    for (int64_t outer = 0; outer < g.cells; outer += inner)
      for (int64_t shift = stride; shift <= std::min<int64_t>(reach, n - 1) * stride; shift += stride) {
        const uint8_t* near = spare.data() + outer;
        uint8_t* line = to + outer;
        for (int64_t i = 0; i < inner - shift; ++i) line[i] |= near[i + shift];
        for (int64_t i = shift; i < inner; ++i) line[i] |= near[i - shift];
        if (!rule.wraps) continue;
        for (int64_t i = 0; i < shift; ++i) line[i] |= near[i - shift + inner];
        for (int64_t i = inner - shift; i < inner; ++i) line[i] |= near[i + shift - inner];
      }
    inner = stride;
  }
}

inline void pack_bits(const uint8_t* bytes, int64_t count, uint8_t* bits) {
  for (int64_t i = 0; i < count; i += 8) {
    uint8_t byte = 0;
    for (int64_t j = i; j < std::min(i + 8, count); ++j) byte |= static_cast<uint8_t>(bytes[j] << (j - i));
    bits[i / 8] = byte;
  }
}

inline void unpack_bits(const uint8_t* bits, int64_t count, uint8_t* bytes) {
  for (int64_t i = 0; i < count; ++i) bytes[i] = bits[i / 8] >> (i % 8) & 1;
}

}  // namespace ncafast::cpu
