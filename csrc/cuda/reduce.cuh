// Sums over blocks in a fixed order: two runs give the same bits.
#pragma once

#include "device.h"

namespace ncafast::cuda {

constexpr int reduce_width = 32, reduce_slices = 16;

// to[i] = sum of slabs[j * slab + i] over j: 32 neighbouring elements a block and turn, 16 slices of the slabs for
// each, shared out among the block's warps. `parts` [reduce_width * reduce_slices] is in shared memory.
NCAFAST_DEVICE void reduce_all(const float* slabs, int count, int64_t slab, int64_t elements, float* to, float* parts) {
  const int column = static_cast<int>(threadIdx.x) % reduce_width, warp = static_cast<int>(threadIdx.x) / reduce_width;
  const int warps = static_cast<int>(blockDim.x) / reduce_width;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * reduce_width; first < elements;
       first += static_cast<int64_t>(gridDim.x) * reduce_width) {
    const int64_t i = first + column;
    for (int slice = warp; slice < reduce_slices; slice += warps) {
      float sum = 0.0f;
      if (i < elements)
        for (int j = slice; j < count; j += reduce_slices) sum += slabs[j * slab + i];
      parts[slice * reduce_width + column] = sum;
    }
    __syncthreads();
    for (int half = reduce_slices / 2; half > 0; half /= 2) {
      for (int slice = warp; slice < half; slice += warps)
        parts[slice * reduce_width + column] += parts[(slice + half) * reduce_width + column];
      __syncthreads();
    }
    if (warp == 0 && i < elements) to[i] = parts[column];
    __syncthreads();  // before the next turn's parts
  }
}

inline __global__ void __launch_bounds__(reduce_width* reduce_slices)
    reduce_slabs(const float* slabs, int count, int64_t slab, int64_t elements, float* to) {
  NCAFAST_SHARED(float, parts, reduce_width* reduce_slices);
  grid_dependency_wait();
  reduce_all(slabs, count, slab, elements, to, parts);
}

}  // namespace ncafast::cuda
