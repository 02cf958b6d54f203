// A rule on a grid, in the numbers that kernels ask for; and states in memory. Passed to kernels by value.
#pragma once

#include <cstdint>

#include "../philox.h"
#include "../rollout.h"

namespace ncafast::cuda {

constexpr int max_box = 256;   // cells of a tile
constexpr int warp_rows = 32;  // cells that one warp of the forward step takes through the MLP
constexpr int most_channels = 32;
constexpr int most_perception = 128;
constexpr int most_hidden = 128;
constexpr int most_state_channels = 64;  // of layers.h
constexpr int64_t most_sample_cells = int64_t{1}
                                      << 30;  // of a sample, and tiles of a batch: kernels count them in an int

// Division of 0 to 2^31 - 1 by a number that is known when a kernel is launched: a product and a shift, where the
// device's own takes about twenty instructions.
struct Divisor {
  uint32_t times, shift;

  NCAFAST_HOST_DEVICE int operator()(int n) const {
#ifdef __CUDA_ARCH__
    return static_cast<int>(__umulhi(2 * static_cast<uint32_t>(n), times) >> shift);
#else
    return static_cast<int>(static_cast<uint32_t>(uint64_t{times} * (2 * static_cast<uint32_t>(n)) >> 32) >> shift);
#endif
  }
};

// With 2^(shift - 1) < by <= 2^shift, `times` is 2^(31 + shift) / by and less than 1 more, so that n < 2^31 times what
// it is too large by stays below 2^(31 + shift).
inline Divisor divisor(int64_t by) {
  uint32_t shift = 0;
  if (by < 1 || by > most_sample_cells) by = 1;  // of a grid without cells, or one that is refused
  while (int64_t{1} << shift < by) ++shift;
  return {static_cast<uint32_t>((uint64_t{1} << (31 + shift)) / static_cast<uint64_t>(by) + 1), shift};
}

// Widths are those of the padded arrays: multiples of what a matrix instruction takes, the padding 0. Rows of Y and W1
// are `perception_row` long, 4 times an odd number: then both ways in which fragments are read (8 rows by 4 columns, 4
// pairs of rows by 8 columns) touch 32 different banks of shared memory. Rows of W2, `hidden_row`, are 8 times an odd
// number, for pairs of columns.
struct Shape {
  int channels, channels4, channels8;  // C; a multiple of 4 (rows of a tile, filters); 16 or 32 (matrices)
  int filters, extra, own;             // F, E, and C where the state itself is perceived
  int perception, perception16, perception_row;
  int hidden, hidden32, hidden_row;
  int kernel[3], radius[3], taps;
  int size[3];
  int box[3], halo[3], box_cells, halo_cells;  // of a tile, without and with what its filters see around it
  int tiles[3];
  Divisor by_quads;  // channels4 / 4
  Divisor by_box[3], by_halo[3], by_tiles[3], by_sample_tiles;
  int64_t sample_tiles, all_tiles;
  int64_t cells, batch;  // of a sample; samples
  int mutable_lo, mutable_hi, restore_lo, restore_hi;
  uint64_t touched, moved;  // a bit for each channel, see below
  Padding padding;
  Activation activation;
  float slope, scale;
  bool centred;  // the perception's mean is taken off it: batch norm
  bool settles;  // the alive mask and the restored channels come after the step, in a pass of their own
  int dense;     // outputs of a dense convolution, in place of the F C of filters
};

NCAFAST_HOST_DEVICE inline bool restored(const Shape& s, int c) { return c >= s.restore_lo && c < s.restore_hi; }
// Whether a channel's update counts in the end, and whether the step adds it.
NCAFAST_HOST_DEVICE inline bool touched(const Shape& s, int c) { return s.touched >> c & 1; }
NCAFAST_HOST_DEVICE inline bool moves(const Shape& s, int c) { return s.moved >> c & 1; }

// States [B, *S, C] or [B, C, *S]: steps of the axes, in elements.
template <class T>
struct States {
  T* values;
  int64_t sample, cell, channel;
  bool aligned;  // four channels of a cell lie side by side at a multiple of their size
};

template <class T>
NCAFAST_HOST_DEVICE States<T> channels_last(T* values, const Shape& s) {
  return {values, s.cells * s.channels, s.channels, 1,
          s.channels % 4 == 0 && reinterpret_cast<uintptr_t>(values) % (4 * sizeof(T)) == 0};
}

template <class T>
NCAFAST_HOST_DEVICE States<T> channels_first(T* values, const Shape& s) {
  return {values, s.cells * s.channels, 1, s.cells, false};
}

template <class T>
NCAFAST_HOST_DEVICE States<const T> read_only(const States<T>& states) {
  return {states.values, states.sample, states.cell, states.channel, states.aligned};
}

// What the kernels read of the parameters, see prepare.cuh. All are padded.
struct Weights {
  float* filters;      // [taps, F, channels4]
  float* filter_bias;  // [F, channels4]
  float* first;  // W1 [hidden32, perception_row], its norm folded in, rounded as products want it; not batch norm's
  float* first_bias;   // [hidden32]
  float* update;       // W2 [channels8, hidden_row]
  float* update_bias;  // [channels8]
  float* centre;       // [perception16] mean of the perception where the shape is `centred`
};

inline int round_up_int(int n, int to) { return (n + to - 1) / to * to; }

// The activation's slope below 0, of those that are lines there.
float slope_of(Activation activation, float negative_slope);

// A shape whose tiles hold about `cells` cells; fewer on thin grids, where as many would see more than elsewhere, so
// that what fits into shared memory on a wide grid fits on all.
Shape make_shape(const Rule& rule, const Grid& grid, int cells);

// A shape with at most so many tiles in a sample, all about as large.
Shape make_parts(const Rule& rule, const Grid& grid, int parts);

}  // namespace ncafast::cuda
