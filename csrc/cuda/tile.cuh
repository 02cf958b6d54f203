// Tiles of the grid: where they lie, and their states with what filters see around them, in shared memory.
#pragma once

#include "device.h"
#include "shape.h"

namespace ncafast::cuda {

struct Tile {
  int64_t sample;
  int origin[3];
};

NCAFAST_DEVICE Tile tile_at(const Shape& s, int64_t number) {
  Tile tile;
  tile.sample = number / s.sample_tiles;
  int rest = static_cast<int>(number - tile.sample * s.sample_tiles);
  tile.origin[2] = rest % s.tiles[2] * s.box[2];
  rest /= s.tiles[2];
  tile.origin[1] = rest % s.tiles[1] * s.box[1];
  tile.origin[0] = rest / s.tiles[1] * s.box[0];
  return tile;
}

// Calls work(tile, its number, follows) for all tiles of this block, a barrier before each. In 3-D a block walks along
// the first axis, column after column: `follows` says that the tile before lies next to this one. In 2-D blocks take
// turns, so that a region where nothing lives is not one block's alone.
template <class Work>
NCAFAST_DEVICE void over_own_tiles(const Shape& s, Work work) {
  for (int turn = 0;; ++turn) {  // all else is computed anew: a register saved is worth more than what that takes
    int64_t number = blockIdx.x + static_cast<int64_t>(turn) * gridDim.x;
    if (s.tiles[0] > 1) {
      number = s.all_tiles * blockIdx.x / gridDim.x + turn;
      if (number >= s.all_tiles * (blockIdx.x + 1) / gridDim.x) break;
      const int64_t sample = number / s.sample_tiles;
      const int rest = static_cast<int>(number - sample * s.sample_tiles), column = rest / s.tiles[0];
      number = sample * s.sample_tiles + (rest - column * s.tiles[0]) * s.tiles[1] * s.tiles[2] + column;
    } else if (number >= s.all_tiles) {
      break;
    }
    const Tile tile = tile_at(s, number);
    __syncthreads();
    work(tile, number, turn > 0 && tile.origin[0] > 0);
  }
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

NCAFAST_DEVICE int64_t cell_number(const Shape& s, const int (&at)[3]) {
  return (static_cast<int64_t>(at[0]) * s.size[1] + at[1]) * s.size[2] + at[2];
}

// Where in the box a place of the tile with its surroundings lies; outside of it in the surroundings.
NCAFAST_DEVICE void halo_cell(const Shape& s, int halo_place, int (&at)[3]) {
  at[2] = halo_place % s.halo[2] - s.radius[2];
  halo_place /= s.halo[2];
  at[1] = halo_place % s.halo[1] - s.radius[1];
  at[0] = halo_place / s.halo[1] - s.radius[0];
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

// The cell of the grid that a place of the tile with its surroundings shows; negative: none.
NCAFAST_DEVICE int64_t shown_cell(const Shape& s, const Tile& tile, int halo_place) {
  int at[3];
  halo_cell(s, halo_place, at);
  return to_shown(s, tile, at) ? cell_number(s, at) : -1;
}

// The cell of the grid at a place of the box, negative where the grid has ended, and its place among `shown_cell`s.
struct BoxCell {
  int64_t cell;
  int halo_place;
  int at[3];  // of the grid
};

NCAFAST_DEVICE BoxCell box_cell(const Shape& s, const Tile& tile, int place) {
  const int x = place % s.box[2], row = place / s.box[2];
  const int y = row % s.box[1], z = row / s.box[1];
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
NCAFAST_DEVICE void load_tile(const Shape& s, const States<const float>& x, const Tile& at, float* tile,
                              int from_place = 0) {
  const float* from = x.values + at.sample * x.sample;
  const int threads = static_cast<int>(blockDim.x), quads = s.channels4 / 4;
  if (x.aligned) {
    for (int i = from_place * quads + static_cast<int>(threadIdx.x); i < s.halo_cells * quads; i += threads) {
      const int place = i / quads, quad = i - place * quads;
      const int64_t cell = shown_cell(s, at, place);
      copy_async<16>(tile + place * s.channels4 + 4 * quad, from + (cell < 0 ? 0 : cell * x.cell) + 4 * quad,
                     cell >= 0);
    }
  } else {  // cells innermost, as they lie in memory when the channels come first
    for (int place = from_place + static_cast<int>(threadIdx.x); place < s.halo_cells; place += threads) {
      const int64_t cell = shown_cell(s, at, place);
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
NCAFAST_DEVICE void load_next_tile(const Shape& s, const States<const float>& x, const Tile& at, bool follows,
                                   float* tile) {
  if (!follows || s.box[0] < 2 * s.radius[0]) return load_tile(s, x, at, tile);
  const int plane = s.halo[1] * s.halo[2], known = 2 * s.radius[0] * plane;
  const float* before = tile + s.box[0] * plane * s.channels4;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < known * s.channels4; i += 4 * static_cast<int>(blockDim.x))
    *reinterpret_cast<float4*>(tile + i) = *reinterpret_cast<const float4*>(before + i);
  __syncthreads();
  load_tile(s, x, at, tile, known);
}

// Starts the copies of an array of a multiple of 4 floats, both ends aligned to 16 bytes.
NCAFAST_DEVICE void load_array(float* to, const float* from, int count) {
  for (int i = 4 * static_cast<int>(threadIdx.x); i < count; i += 4 * static_cast<int>(blockDim.x))
    copy_async<16>(to + i, from + i);
}

}  // namespace ncafast::cuda
