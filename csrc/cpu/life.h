// The alive mask: planes of bytes, one per cell, and their dilation.
#pragma once

#include <algorithm>
#include <vector>

#include "job.h"

namespace ncafast::cpu {

// to = whether any cell within `reach` along every axis is set; both [z, y, x] of one sample.
inline void dilate(const Geometry& g, int reach, const uint8_t* from, uint8_t* to, std::vector<uint8_t>& spare) {
  spare.assign(from, from + g.cells);
  int64_t inner = g.cells;  // cells of all axes from the present one inwards
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t n = g.size[axis], stride = inner / n;
    for (int64_t outer = 0; outer < g.cells; outer += inner)
      for (int64_t i = 0; i < n; ++i) {
        uint8_t* line = to + outer + i * stride;
        const uint8_t* near = spare.data() + outer;
        const int64_t first = std::max<int64_t>(0, i - reach), last = std::min<int64_t>(n - 1, i + reach);
        std::copy_n(near + first * stride, stride, line);
        for (int64_t j = first + 1; j <= last; ++j)
          for (int64_t k = 0; k < stride; ++k) line[k] |= near[j * stride + k];
      }
    std::copy_n(to, g.cells, spare.data());
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
