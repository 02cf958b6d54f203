// What the drivers hand to the tile kernels of one instruction set: plain structs only, so that those files need no
// library code and no function compiled for a newer processor can be picked by the linker for an older one.
//
// Inside the CPU backend states are channels last, [B, *S, C]. W is the vector width in floats; Xp is X rounded up to
// W, and Xs the stride of rows of X floats, see `row_stride`.
#pragma once

#include <cstdint>

#include "kinds.h"
#include "philox.h"
#include "rollout.h"

namespace ncafast::cpu {

constexpr int max_width = 16;   // floats in the widest vector
constexpr int tile_cells = 48;  // cells that go through the MLP together; a multiple of every micro-kernel's rows

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Of a matrix whose columns are read in strips: whole vectors, and an odd number of cache lines, so that the lines of a
// strip lie in all sets of the nearest cache instead of a few. (AVX2, EPYC 25-1, one thread, 2026-11-29: training with
// weights of 640 x 128, 76 instead of 83 ms per step.)
inline int64_t row_stride(int64_t n, int64_t width) {
  constexpr int64_t line = 16;
  const int64_t whole = round_up(n, width);
  return whole % (2 * line) ? whole : whole + line;
}

// One cell of a sample: its place in the grid, and in the window that shows it with its neighbours (window.h).
struct Cell {
  int32_t index;
  int32_t padded;
};

// The grid of one sample. The tile kernels see a part of it, with a border as wide as the filters reach, so that every
// cell has all its neighbours at fixed offsets.
struct Geometry {
  int64_t cells, padded_cells;
  int32_t size[3], radius[3], padded[3];
  int32_t taps;
  int32_t channels;       // C
  const int64_t* offset;  // [taps] floats from a cell to its neighbour
};

// A factor of a product, rows by columns: in float32, and as bfloat16 where that was chosen, each word a column's value
// of two rows (the first one in its low half, zero past the last row).
struct Factor {
  const float* floats;    // [K, Ns]
  const uint32_t* pairs;  // [ceil(K / 2), Ns] or null
};

// One 1x1 layer, packed: inputs K, outputs N.
struct Dense {
  int32_t inputs, outputs;
  Factor forward;     // [K, Ns]
  const float* bias;  // [Np]
  Factor backward;    // [N, Ks]
};

// Layer norm of one hidden layer.
struct LayerNorm {
  const float* weight;  // [Np]
  const float* bias;    // [Np]
  const float* inside;  // [Np] 1 on the layer's units, 0 past them
};

// All weights, packed for one step.
struct Packed {
  int32_t channels, filters, extra, pooled, layers;
  int32_t perception;  // P
  bool identity, dense, layer_norm;
  Activation activation, dense_activation, update_activation;
  float slope, norm_eps;
  const float* taps;      // [taps, F, Cp] depthwise filters
  const float* tap_bias;  // [F, Cp]
  Dense conv;             // dense perception: K = taps * C, N = dense channels
  const float* centre;    // [Pp] what is taken off the perception before the MLP, zero past P, or null
  Dense hidden[max_hidden_layers];
  LayerNorm norm[max_hidden_layers];  // only under layer norm, as all that belongs to it below
  Dense update;                       // N = C: immutable channels have zero rows
};

// Sums of gradients of one thread, in the packed layouts.
struct Sums {
  float* taps;                       // [taps, F, Cp]
  float* tap_bias;                   // [F, Cp]
  float* conv;                       // [taps * C, Np]
  float* conv_bias;                  // [Np]
  float* hidden[max_hidden_layers];  // [K, Np]
  float* hidden_bias[max_hidden_layers];
  float* norm_weight[max_hidden_layers];  // [Np]
  float* norm_bias[max_hidden_layers];    // [Np]
  float* update;                          // [C, Hp]
  float* update_bias;                     // [Cp]
};

// Memory of one thread; every row count is tile_cells.
struct Scratch {
  float* columns;                     // [, taps * C + W] what a dense convolution sees
  float* seen;                        // [, Np] its outputs
  float* seen_slope;                  // [, Np] derivative of its activation
  float* perception;                  // [, Pp + W]
  float* value[max_hidden_layers];    // [, Hs] after the activation
  float* slope[max_hidden_layers];    // [, Hs] derivative of the activation
  float* normal[max_hidden_layers];   // [, Hs] layer norm before its weight: of mean 0 and variance 1
  float* inverse[max_hidden_layers];  // [, 1] 1 / sqrt(var + eps)
  float* kept[max_hidden_layers];     // [, Hs] factors of dropout
  uint8_t* drawn;                     // a cell's words of dropout
  uint32_t* pairs;                    // [, widest] the other factor of a product in bfloat16
  float* delta[2];                    // [, widest] gradients on their way back
  float* update;                      // [, Cp]
  float* update_slope;                // [, Cp] value or derivative of its activation
  float* grad_perception;             // [, Pp + W]
  Cell* cells;                        // a band's cells
  uint8_t* fired;                     // a band's mask
  float* grad;                        // [a band's cells, C + W] backward: of those listed
};

// Which hidden units stay, see draw_kept: those whose word is below the limit.
struct Dropout {
  uint64_t limit, seed;
  uint32_t sample, step;
  float scale;  // of those that stay
  bool drops() const { return limit >> 32 == 0; }
};

// A band of one sample in one step; P* stands for the axes of its window.
struct Job {
  const Geometry* geometry;
  const Packed* packed;
  const float* x;           // [P*, C]
  float* out;               // [*S, C] forward: added to
  const float* grad;        // [cells, C] backward: dL/dx_(t+1) of the cells that the call is about, in their order
  float* grad_x;            // [P*, C] backward: dL/dx_t, added to
  float scale;              // of the update
  Dropout dropout;          // of the hidden units
  const uint32_t* moved;    // [Cp] all ones on the mutable channels
  const uint32_t* touched;  // [Cp] all ones on those of them whose update counts in the end
  const float* extra;       // this sample and step, strides as below
  int64_t extra_channel, extra_axis[3];
  float* grad_extra;    // [E, *S] added to, or null
  const float* pooled;  // [pooled] what every cell sees
  float* grad_pooled;   // [pooled] added to
  bool wants_taps;      // backward: the depthwise filters' own gradients too
  float* seen;          // [*S, F * C] what the depthwise filters give, where it is kept between passes, or null
  bool seen_known;      // it was written by an earlier pass
  // [cells, P] dL/dy, in the order of the cells that `backward` is about and that `affine` finds here, where it is the
  // latter that spreads it; or null.
  float* given;
  const Cell* given_cells;
  int32_t given_count;
};

struct Kernels {
  const char* name;
  int32_t width;
  // Blocks of four cells: 1 where a cell fires.
  void (*draw)(uint8_t* fired, int64_t first_block, int64_t blocks, uint32_t sample, uint32_t step, uint64_t seed,
               uint64_t limit);
  // out += update at these cells.
  void (*forward)(const Job&, const Scratch&, const Cell* cells, int32_t count);
  // job.seen at these cells.
  void (*see)(const Job&, const Scratch&, const Cell* cells, int32_t count);
  // grad_x (or given) and the sums from these cells.
  void (*backward)(const Job&, const Scratch&, const Sums&, const Cell* cells, int32_t count);
  // first += sum of y - shift, second += sum of (y - shift)(y - shift)^T, upper blocks only.
  void (*moments)(const Job&, const Scratch&, const float* shift, float* first, float* second, const Cell* cells,
                  int32_t count);
  // grad_x and the filters' sums from dy = matrix (y - centre) + offset (+ given) at these cells; matrix [Pp, P] is
  // transposed.
  void (*affine)(const Job&, const Scratch&, const Sums&, const float* matrix, const float* offset, const Cell* cells,
                 int32_t count);
  // Clamps values, NaN stays; `inside`, unless null, gets a bit for each whose gradient passes.
  void (*clamp)(float* values, int64_t count, const Clamp& to, uint8_t* inside);
  // grads = 0 where the bit is not set.
  void (*gate)(float* grads, int64_t count, const uint8_t* inside);
  // d [M, N] = a [M, K] b [K, N]; a(m, k) = a[m * am + k * ak]; M of a and d a multiple of 24 in memory, N of the
  // width.
  void (*matmul)(int64_t M, int64_t N, int64_t K, const float* a, int64_t am, int64_t ak, const float* b, int64_t ldb,
                 float* d, int64_t ldd);
  // Nothing but multiply-adds on registers; one round is so many operations.
  float (*multiply_add)(int64_t rounds);
  int64_t multiply_add_operations;
};

const Kernels* portable_kernels();
const Kernels* avx2_kernels();    // null where this compiler has no such target
const Kernels* avx512_kernels();  // likewise
const Kernels* bf16_kernels();    // AVX-512 with the MLP's products in bfloat16; likewise
const Kernels& chosen_kernels();  // the best for this processor, or what NCAFAST_CPU_ISA names

// Of the bits of `clamp`, which are written by whole vectors.
inline int64_t bit_bytes(int64_t count) { return round_up(count, max_width) / 8; }

}  // namespace ncafast::cpu
