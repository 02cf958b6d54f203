// Which cells of a tile take part in a step, and the list of them.
//
// Why compaction: at a fire rate of 1/2 half of a dense step's perception and products is thrown away, so listing the
// cells first halves both (model: MaxNCA 32 x 64^2 in TF32, 131 k cells of 16.4 kFLOP, 7 us of products at 30 % of an
// H200's peak become 3.5; the list itself is one ballot per 32 cells while the tile is on its way). Only where every
// cell fires is the list the tile itself. Unverified on hardware.
#pragma once

#include "../philox.h"
#include "active.h"
#include "tile.cuh"

namespace ncafast::cuda {

NCAFAST_DEVICE bool is_active(const Shape& s, const Activity& a, int64_t sample, int64_t cell) {
  if (a.wanted && !a.wanted[sample * s.cells + cell]) return false;
  if (a.mask) return a.mask[sample * a.mask_sample + cell] != 0;
  if (!a.seed) return true;
  const Block words = draw(*a.seed, Stream::fire, a.first_sample + static_cast<uint32_t>(sample), a.step,
                           static_cast<uint64_t>(cell) / 4);
  const int word = static_cast<int>(cell % 4);
  const uint32_t chosen =
      word < 2 ? (word == 0 ? words.word[0] : words.word[1]) : (word == 2 ? words.word[2] : words.word[3]);
  return chosen < a.limit;
}

// Places in the box of the active cells of which `wanted(cell)` is true, in ascending order; `active` [box_cells] says
// which they are, `count` how many. To be called by all threads; ends with a barrier.
template <class Wanted>
NCAFAST_DEVICE void list_active(const Shape& s, const Activity& a, const Tile& tile, Wanted wanted, uint16_t* list,
                                uint8_t* active, int* count) {
  for (int i = static_cast<int>(threadIdx.x); i < s.box_cells; i += static_cast<int>(blockDim.x)) {
    const BoxCell at = box_cell(s, tile, i);
    active[i] = at.cell >= 0 && is_active(s, a, tile.sample, at.cell) && wanted(at);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    int before = 0;
    for (int first = 0; first < s.box_cells; first += 32) {
      const bool on = first + lane < s.box_cells && active[first + lane];
      const unsigned votes = __ballot_sync(0xffffffffu, on);
      if (on) list[before + __popc(votes & ((1u << lane) - 1))] = static_cast<uint16_t>(first + lane);
      before += __popc(votes);
    }
    if (lane == 0) *count = before;
  }
  __syncthreads();
}

NCAFAST_DEVICE void list_active(const Shape& s, const Activity& a, const Tile& tile, uint16_t* list, uint8_t* active,
                                int* count) {
  list_active(s, a, tile, [](const BoxCell&) { return true; }, list, active, count);
}

// All cells of the box that the grid has. The same ending.
NCAFAST_DEVICE void list_all(const Shape& s, const Tile& tile, uint16_t* list, uint8_t* active, int* count) {
  list_active(s, Activity{}, tile, list, active, count);
}

}  // namespace ncafast::cuda
