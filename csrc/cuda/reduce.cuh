// Sums over blocks in a fixed order: two runs give the same bits.
#pragma once

#include "device.h"

namespace ncafast::cuda {

constexpr int reduce_width = 32, reduce_slices = 16;

// to[i] = sum of slabs[j * slab + i] over j: 32 neighbouring elements a block, 16 slices of the slabs for each, one a
// warp.
inline __global__ void __launch_bounds__(reduce_width* reduce_slices)
    reduce_slabs(const float* slabs, int count, int64_t slab, float* to) {
  NCAFAST_SHARED(float, parts, reduce_width* reduce_slices);
  grid_dependency_wait();
  const int thread = static_cast<int>(threadIdx.x), slice = thread / reduce_width;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * reduce_width + thread % reduce_width;
  float sum = 0.0f;
  if (i < slab)
    for (int j = slice; j < count; j += reduce_slices) sum += slabs[j * slab + i];
  parts[thread] = sum;
  __syncthreads();
  for (int half = reduce_slices / 2; half > 0; half /= 2) {
    if (slice < half) parts[thread] += parts[thread + half * reduce_width];
    __syncthreads();
  }
  if (slice == 0 && i < slab) to[i] = parts[thread];
}

}  // namespace ncafast::cuda
