// Where the blocks of a launch add up what each has, within it: see tree.cuh.
#pragma once

#include "arena.h"

namespace ncafast::cuda {

constexpr int tree_width = 16;

struct Tree {
  float *parts, *groups, *sum;  // [blocks, part], [groups, part], [part]; a part is a multiple of 4
  uint32_t* tickets;            // [1 + groups], 0 between launches
};

NCAFAST_HOST_DEVICE inline int tree_groups(int blocks) { return (blocks + tree_width - 1) / tree_width; }

// For launches of at most so many blocks.
inline Tree take_tree(int blocks, int part, Arena& arena) {
  const int groups = tree_groups(blocks);
  Tree tree;
  tree.parts = arena.take<float>(int64_t{blocks} * part);
  tree.groups = arena.take<float>(int64_t{groups} * part);
  tree.sum = arena.take<float>(blocks > 0 ? part : 0);
  tree.tickets = arena.take<uint32_t>(blocks > 0 ? 1 + groups : 0);
  return tree;
}

// Once, before the first launch: the last block of each sets its tickets back.
inline void clear_tickets(const Tree& tree, int blocks, void* stream) {
  if (blocks > 0)
    memset_async(tree.tickets, 0, sizeof(uint32_t) * (1 + static_cast<size_t>(tree_groups(blocks))), stream);
}

}  // namespace ncafast::cuda
