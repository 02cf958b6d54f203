// Sums over the blocks of a launch, made within it: whoever comes last adds up what all have left in memory.
//
// Blocks draw tickets in groups of `tree_width`: the last of a group adds up the group's parts, the last of those the
// groups' sums. Which blocks these are is chance, the order of the sums is not: two runs give the same bits. With 264
// blocks the two hold 16 and 17 parts each, where a single last block would read all 264, at some 100 GB/s 25 us for
// MaxNCA's moments instead of 3. Clusters would add up eight parts through shared memory first, but exist from sm_90 on
// only, and need their blocks on one part of the GPU at once. By count, unverified on hardware.
#pragma once

#include "perception.cuh"
#include "tree.h"

namespace ncafast::cuda {

// Whether this block is the last of so many to draw a ticket, and may read what the others wrote before. The ticket is
// 0 again after it. To be called by all threads.
NCAFAST_DEVICE bool is_last(uint32_t* ticket, int blocks) {
  __syncthreads();
  bool last = false;
  if (threadIdx.x == 0) {
    last = add_release(ticket, 1) == static_cast<uint32_t>(blocks - 1);
    if (last) *ticket = 0;
  }
  return __syncthreads_or(last) != 0;
}

NCAFAST_DEVICE void add_parts(const float* parts, int count, int part, float* sum) {
  for (int i = 4 * static_cast<int>(threadIdx.x); i < part; i += 4 * static_cast<int>(blockDim.x)) {
    float4 total = quad_at(parts + i);
#pragma unroll 8
    for (int j = 1; j < count; ++j) total = add4(total, quad_at(parts + static_cast<int64_t>(j) * part + i));
    quad_at(sum + i) = total;
  }
}

// To be called by all threads of all blocks, each with its part written. True in one block, which has tree.sum.
NCAFAST_DEVICE bool add_blocks(const Tree& tree, int part) {
  const int blocks = static_cast<int>(gridDim.x), groups = tree_groups(blocks);
  const int group = static_cast<int>(blockIdx.x) / tree_width, first = group * tree_width;
  const int own = blocks - first < tree_width ? blocks - first : tree_width;
  if (!is_last(tree.tickets + 1 + group, own)) return false;
  add_parts(tree.parts + static_cast<int64_t>(first) * part, own, part,
            tree.groups + static_cast<int64_t>(group) * part);
  if (!is_last(tree.tickets, groups)) return false;
  add_parts(tree.groups, groups, part, tree.sum);
  __syncthreads();
  return true;
}

}  // namespace ncafast::cuda
