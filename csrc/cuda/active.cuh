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

// Whether a cell may take part at all: what was asked for, and a mask that was handed in.
NCAFAST_DEVICE bool may_be_active(const Shape& s, const Activity& a, int64_t sample, int cell) {
  if (a.wanted && !a.wanted[sample * s.cells + cell]) return false;
  return !a.mask || a.mask[sample * a.mask_sample + cell] != 0;
}

NCAFAST_DEVICE uint32_t word_at(const Block& words, int number) {
  return number < 2 ? (number == 0 ? words.word[0] : words.word[1]) : (number == 2 ? words.word[2] : words.word[3]);
}

// What list_active thinks of a place of the box.
constexpr uint8_t mark_still = 1, mark_active = 2;  // 0: the grid does not have it

// Marks [box_cells]. A thread takes `together` cells at a time, 1 or those 4 that share a block of random words: then
// lines of the box and of the grid are multiples of 4.
template <int together, class Wanted>
NCAFAST_DEVICE void mark_cells(const Shape& s, const Activity& a, const Tile& tile, Wanted wanted, uint8_t* marks) {
  const bool draws = a.seed && !a.mask, asks = a.wanted || a.mask;
  const uint64_t seed = draws ? *a.seed : 0;
  const uint32_t sample = a.first_sample + static_cast<uint32_t>(tile.sample);
  for (int i = together * static_cast<int>(threadIdx.x); i < s.box_cells;
       i += together * static_cast<int>(blockDim.x)) {
    BoxCell at = box_cell(s, tile, i);
    if (at.cell < 0) {
#pragma unroll
      for (int j = 0; j < together; ++j) marks[i + j] = 0;
      continue;
    }
    Block words{};
    if (draws) words = draw(seed, Stream::fire, sample, a.step, static_cast<uint32_t>(at.cell) / 4);
#pragma unroll
    for (int j = 0; j < together; ++j) {
      // A limit of 2^32 is never drawn for.
      const uint32_t word = word_at(words, together == 4 ? j : at.cell % 4);
      const bool active = (!draws || word < static_cast<uint32_t>(a.limit)) &&
                          (!asks || may_be_active(s, a, tile.sample, at.cell)) && wanted(at);
      marks[i + j] = active ? mark_active : mark_still;
      ++at.cell, ++at.at[2], ++at.halo_place;
    }
  }
}

// Places among `shown_cell`s of the box's cells that the grid has: from the list's [box_cells] beginning on the active
// ones of which `wanted(cell)` is true, ascending, and from its end backwards the others. `marks` [box_cells] is room
// for this; `count` says how many there are of both. To be called by all threads; ends with a barrier.
template <class Wanted>
NCAFAST_DEVICE void list_active(const Shape& s, const Activity& a, const Tile& tile, Wanted wanted, uint16_t* list,
                                uint8_t* marks, int* count) {
  if ((s.box[2] | s.size[2]) % 4 == 0) {
    mark_cells<4>(s, a, tile, wanted, marks);
  } else {
    mark_cells<1>(s, a, tile, wanted, marks);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    const unsigned below = (1u << lane) - 1;
    int active = 0, still = 0;
#pragma unroll 1
    for (int first = 0; first < s.box_cells; first += 32) {
      const int place = first + lane, mark = place < s.box_cells ? marks[place] : 0;
      const uint16_t halo_place = static_cast<uint16_t>(halo_place_at(s, place));
      const unsigned active_votes = __ballot_sync(0xffffffffu, mark == mark_active);
      const unsigned still_votes = __ballot_sync(0xffffffffu, mark == mark_still);
      if (mark == mark_active) list[active + __popc(active_votes & below)] = halo_place;
      if (mark == mark_still) list[s.box_cells - 1 - still - __popc(still_votes & below)] = halo_place;
      active += __popc(active_votes);
      still += __popc(still_votes);
    }
    if (lane == 0) count[0] = active, count[1] = still;
  }
  __syncthreads();
}

NCAFAST_DEVICE void list_active(const Shape& s, const Activity& a, const Tile& tile, uint16_t* list, uint8_t* marks,
                                int* count) {
  list_active(s, a, tile, [](const BoxCell&) { return true; }, list, marks, count);
}

// All cells of the box that the grid has. The same ending.
NCAFAST_DEVICE void list_all(const Shape& s, const Tile& tile, uint16_t* list, uint8_t* marks, int* count) {
  list_active(s, Activity{}, tile, list, marks, count);
}

}  // namespace ncafast::cuda
