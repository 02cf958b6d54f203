// Launches that both ways backward have: the filters' gradients, and sums over blocks.
#pragma once

#include "filters_back.cuh"
#include "launches.h"
#include "reduce.cuh"

namespace ncafast::cuda {

template <class From>
void launch_filters_back(const FiltersBack<From>& back, unsigned blocks, const BlockSize& block, void* stream) {
  const int row = back.shape.kernel[2];
  const auto kernel = row == 1   ? filters_back<1, From>
                      : row == 3 ? filters_back<3, From>
                      : row == 5 ? filters_back<5, From>
                                 : filters_back<7, From>;
  launch_dependent(kernel, dim3(blocks, blocks_of(filter_items(back.shape), filter_threads)), dim3(filter_threads),
                   static_cast<size_t>(block.bytes), stream, back);
}

// to = the sum of `count` slabs.
inline void launch_reduce(const float* slabs, int count, int64_t slab, float* to, void* stream) {
  launch_dependent(reduce_slabs, dim3(blocks_of(slab, reduce_width)), dim3(reduce_width * reduce_slices), 0, stream,
                   slabs, count, slab, to);
}

}  // namespace ncafast::cuda
