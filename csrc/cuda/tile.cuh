// Tiles of the grid: where they lie, and their states with what filters see around them, in shared memory.
#pragma once

#include "device.h"
#include "shape.h"

namespace ncafast::cuda {

struct Tile {
  int64_t sample;
  int origin[3];
};

// The tile in line `z` of a column of tiles along the first axis.
NCAFAST_DEVICE Tile tile_in(const Shape& s, int sample, int z, int column) {
  const int y = s.by_tiles[2](column);
  return {sample, {z * s.box[0], y * s.box[1], (column - y * s.tiles[2]) * s.box[2]}};
}

NCAFAST_DEVICE Tile tile_at(const Shape& s, int number) {
  const int sample = s.by_sample_tiles(number), rest = number - sample * static_cast<int>(s.sample_tiles);
  const int lines = s.by_tiles[2](rest), z = s.by_tiles[1](lines);
  return tile_in(s, sample, z, rest - z * s.tiles[1] * s.tiles[2]);
}

// Where a place along an axis of n cells lies under a padding; negative: nowhere, there are zeros.
NCAFAST_DEVICE int along(int i, int n, Padding padding) {
  if (i >= 0 && i < n) return i;
  switch (padding) {
    case Padding::reflect:
      return i < 0 ? -i : 2 * (n - 1) - i;
    case Padding::replicate:
      return i < 0 ? 0 : n - 1;
    case Padding::circular:
      return i < 0 ? i + n : i - n;
    case Padding::zeros:
      break;
  }
  return -1;
}

NCAFAST_DEVICE int cell_number(const Shape& s, const int (&at)[3]) {
  return (at[0] * s.size[1] + at[1]) * s.size[2] + at[2];
}

// Where in the box a place of the tile with its surroundings lies; outside of it in the surroundings.
NCAFAST_DEVICE void halo_cell(const Shape& s, int halo_place, int (&at)[3]) {
  const int line = s.by_halo[2](halo_place), z = s.by_halo[1](line);
  at[2] = halo_place - line * s.halo[2] - s.radius[2];
  at[1] = line - z * s.halo[1] - s.radius[1];
  at[0] = z - s.radius[0];
}

// Turns a place of the box or around it into the place in the grid that it shows; false: it shows none.
NCAFAST_DEVICE bool to_shown(const Shape& s, const Tile& tile, int (&at)[3]) {
  bool shown = true;
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const int place = tile.origin[a] + at[a];
    at[a] = along(place, s.size[a], s.padding);
    shown = shown && at[a] >= 0 && place < s.size[a] + s.radius[a];  // else beyond what any cell sees
  }
  return shown;
}

// Elements from an array's beginning to a cell's: the product of two 32-bit numbers, one instruction.
NCAFAST_DEVICE int64_t elements(int cell, int64_t each) {
  return static_cast<int64_t>(uint64_t{static_cast<uint32_t>(cell)} * static_cast<uint32_t>(each));
}

// How threads share out items of channels4 floats: a thread has one quad of every step-th item from `first` on.
struct QuadShare {
  int first, step, channel;
};

NCAFAST_DEVICE QuadShare share_quads(const Shape& s) {
  const int thread = static_cast<int>(threadIdx.x), step = s.by_quads(static_cast<int>(blockDim.x));
  const int first = s.by_quads(thread), channel = 4 * (thread - first * (s.channels4 / 4));
  return {first < step ? first : 1 << 30, step, channel};  // threads that are left over have none
}

// What a tile shows, [halo[0] * halo[1] + halo[2]] in shared memory: the number of a line's first cell, and a cell's
// place in its line. A place shows the cell whose number is the sum of the two, or none where that is negative.
NCAFAST_HOST_DEVICE inline int shown_parts(const Shape& s) { return s.halo[0] * s.halo[1] + s.halo[2]; }

constexpr int nowhere = -(1 << 30);  // negative with any number of a cell added to it, and twice too

// To be called by all threads; the caller waits for them.
NCAFAST_DEVICE void note_shown(const Shape& s, const Tile& tile, int* shown) {
  const int lines = s.halo[0] * s.halo[1], parts = lines + s.halo[2];
  const auto source = [&](int axis, int halo_place) {
    const int place = tile.origin[axis] + halo_place - s.radius[axis];
    return place < s.size[axis] + s.radius[axis] ? along(place, s.size[axis], s.padding) : -1;
  };
  for (int i = static_cast<int>(threadIdx.x); i < parts; i += static_cast<int>(blockDim.x)) {
    if (i >= lines) {
      const int x = source(2, i - lines);
      shown[i] = x < 0 ? nowhere : x;
    } else {
      const int line = s.by_halo[1](i), z = source(0, line), y = source(1, i - line * s.halo[1]);
      shown[i] = z < 0 || y < 0 ? nowhere : (z * s.size[1] + y) * s.size[2];
    }
  }
}

// The cell of the grid that a place of the tile with its surroundings shows; negative: none.
NCAFAST_DEVICE int shown_cell(const Shape& s, const int* shown, int halo_place) {
  const int line = s.by_halo[2](halo_place);
  return shown[line] + shown[s.halo[0] * s.halo[1] + halo_place - line * s.halo[2]];
}

// Calls work(tile, its number, follows) for all tiles of this block, with `shown` noted, a barrier before each. In 3-D
// a block walks along the first axis, column after column: `follows` says that the tile before lies next to this one.
// In 2-D blocks take turns, so that a region where nothing lives is not one block's alone.
template <class Work>
NCAFAST_DEVICE void over_own_tiles(const Shape& s, int* shown, Work work) {
  const bool walks = s.tiles[0] > 1;
  const int first = static_cast<int>(walks ? s.all_tiles * blockIdx.x / gridDim.x : blockIdx.x);
  const int end = static_cast<int>(walks ? s.all_tiles * (blockIdx.x + 1) / gridDim.x : s.all_tiles);
  const int step = walks ? 1 : static_cast<int>(gridDim.x), columns = s.tiles[1] * s.tiles[2];
  for (int turn = first; turn < end; turn += step) {
    const int sample = s.by_sample_tiles(turn), rest = turn - sample * static_cast<int>(s.sample_tiles);
    const int column = s.by_tiles[0](rest), z = rest - column * s.tiles[0];
    const Tile tile = tile_in(s, sample, z, column);
    __syncthreads();
    note_shown(s, tile, shown);
    __syncthreads();
    work(tile, static_cast<int64_t>(sample) * s.sample_tiles + z * columns + column, turn > first && z > 0);
  }
}

// Where a place of the box lies among those that are shown.
NCAFAST_DEVICE int halo_place_at(const Shape& s, int place) {
  const int line = s.by_box[2](place), z = s.by_box[1](line);
  const int y = line - z * s.box[1], x = place - line * s.box[2];
  return ((z + s.radius[0]) * s.halo[1] + y + s.radius[1]) * s.halo[2] + x + s.radius[2];
}

// The cell of the grid at a place of the box, negative where the grid has ended, and its place among `shown_cell`s.
struct BoxCell {
  int cell, halo_place;
  int at[3];  // of the grid
};

NCAFAST_DEVICE BoxCell box_cell(const Shape& s, const Tile& tile, int place) {
  const int line = s.by_box[2](place), z = s.by_box[1](line);
  const int x = place - line * s.box[2], y = line - z * s.box[1];
  BoxCell found;
  found.halo_place = ((z + s.radius[0]) * s.halo[1] + y + s.radius[1]) * s.halo[2] + x + s.radius[2];
  found.at[0] = tile.origin[0] + z;
  found.at[1] = tile.origin[1] + y;
  found.at[2] = tile.origin[2] + x;
  const bool inside = found.at[0] < s.size[0] && found.at[1] < s.size[1] && found.at[2] < s.size[2];
  found.cell = inside ? cell_number(s, found.at) : -1;
  return found;
}

// Starts the copies of a tile [halo_cells, channels4], from a place on; the caller waits for them. Channels past the
// last are 0.
NCAFAST_DEVICE void load_tile(const Shape& s, const States<const float>& x, const Tile& at, const int* shown,
                              float* tile, int from_place = 0) {
  const float* from = x.values + at.sample * x.sample;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  if (x.aligned) {
    const QuadShare share = share_quads(s);
    from += share.channel;
    for (int place = from_place + share.first; place < s.halo_cells; place += share.step) {
      const int cell = shown_cell(s, shown, place);
      copy_async_of(cell, tile + place * s.channels4 + share.channel, from + elements(cell < 0 ? 0 : cell, s.channels));
    }
  } else {  // cells innermost, as they lie in memory when the channels come first
    for (int place = from_place + thread; place < s.halo_cells; place += threads) {
      const int cell = shown_cell(s, shown, place);
      for (int c = 0; c < s.channels4; ++c) {
        const bool there = cell >= 0 && c < s.channels;
        copy_async<4>(tile + place * s.channels4 + c, from + (there ? cell * x.cell + c * x.channel : 0), there);
      }
    }
  }
  copy_async_commit();
}

// The same where `follows` may say that `tile` still holds the tile before it along the first axis. What both show
// moves over instead of being fetched: at 3^3 a tile of 4 x 8 x 8 then takes 1.6 times its cells from memory and the L2
// instead of 2.3 times, one of 4 x 4 x 8 1.9 instead of 2.8 times. By count, unverified on hardware.
template <class From>
NCAFAST_DEVICE void load_next_tile(const Shape& s, const From& x, const Tile& at, const int* shown, bool follows,
                                   float* tile) {
  int known = 0;
  if (follows && s.box[0] >= 2 * s.radius[0]) {
    const int plane = s.halo[1] * s.halo[2];
    known = 2 * s.radius[0] * plane;
    const float* before = tile + s.box[0] * plane * s.channels4;
    for (int i = 4 * static_cast<int>(threadIdx.x); i < known * s.channels4; i += 4 * static_cast<int>(blockDim.x))
      *reinterpret_cast<float4*>(tile + i) = *reinterpret_cast<const float4*>(before + i);
    __syncthreads();
  }
  load_tile(s, x, at, shown, tile, known);
}

// Starts the copies of an array of a multiple of 4 floats, both ends aligned to 16 bytes.
NCAFAST_DEVICE void load_array(float* to, const float* from, int count) {
  for (int i = 4 * static_cast<int>(threadIdx.x); i < count; i += 4 * static_cast<int>(blockDim.x))
    copy_async<16>(to + i, from + i);
}

}  // namespace ncafast::cuda
