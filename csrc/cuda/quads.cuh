// Products of activations in shared memory with weights in device memory, by a whole block.
//
// A warp has every eighth block of 8 outputs, for all rows. So no weight is asked for twice by a block, and shared
// memory would only be a detour: lanes read them into registers, 16 terms ahead. A lane's terms of 16 are four
// neighbours, 4t to 4t + 3, for both operands, so that each operand is loaded in words of 16 bytes. What a product of
// products.cuh takes for its terms t and t + 4, or 2t and 2t + 1, does not matter as long as both operands agree.
#pragma once

#include "products.cuh"

namespace ncafast::cuda {

constexpr int row_tiles = 4;     // of 16 rows: what a lane has sums of
constexpr int output_tiles = 4;  // of 8 outputs
constexpr int layer_warps = 8;

using Sums = float[row_tiles][output_tiles][4];

// The first row of the rows, how many floats apart they are, and tiles of 16 that hold any.
struct Rows {
  const float* from;
  int row, tiles;
};

// Outputs [count, stride], count a multiple of 8.
struct Outputs {
  const float* weights;
  int stride, count;
};

NCAFAST_DEVICE int layer_warp() { return static_cast<int>(threadIdx.x) / 32; }

// How many of the blocks of 8 outputs are this warp's; block j begins at 8 (layer_warp() + layer_warps j).
NCAFAST_DEVICE int own_outputs(int count) { return (count / 8 - layer_warp() + layer_warps - 1) / layer_warps; }

NCAFAST_DEVICE int first_output(int j) { return 8 * (layer_warp() + layer_warps * j); }

NCAFAST_DEVICE void start_sums(const float* bias, int count, Sums& sums) {
  const int own = own_outputs(count);
#pragma unroll
  for (int j = 0; j < output_tiles; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float value = bias && j < own ? bias[first_output(j) + 2 * lane_t() + i % 2] : 0.0f;
#pragma unroll
      for (int m = 0; m < row_tiles; ++m) sums[m][j][i] = value;
    }
}

// Fragments of 16 terms from quads: of rows g and g + 8, or of output g.
template <Precision precision>
struct Quads;

template <>
struct Quads<Precision::tf32> {
  using P = Product<Precision::tf32>;
  static constexpr int parts = 2;
  NCAFAST_DEVICE static P::Left left(const float4& low, const float4& high, int part) {
    const float a[4] = {part ? low.z : low.x, part ? high.z : high.x, part ? low.w : low.y, part ? high.w : high.y};
    return {{__float_as_uint(a[0]), __float_as_uint(a[1]), __float_as_uint(a[2]), __float_as_uint(a[3])}};
  }
  NCAFAST_DEVICE static P::Right right(const float4& q, int part) {
    return {{__float_as_uint(part ? q.z : q.x), __float_as_uint(part ? q.w : q.y)}};
  }
};

template <>
struct Quads<Precision::tf32x3> {
  using P = Product<Precision::tf32x3>;
  static constexpr int parts = 2;
  NCAFAST_DEVICE static P::Left left(const float4& low, const float4& high, int part) {
    P::Left a;
    P::split(part ? low.z : low.x, a.high[0], a.low[0]);
    P::split(part ? high.z : high.x, a.high[1], a.low[1]);
    P::split(part ? low.w : low.y, a.high[2], a.low[2]);
    P::split(part ? high.w : high.y, a.high[3], a.low[3]);
    return a;
  }
  NCAFAST_DEVICE static P::Right right(const float4& q, int part) {
    P::Right b;
    P::split(part ? q.z : q.x, b.high[0], b.low[0]);
    P::split(part ? q.w : q.y, b.high[1], b.low[1]);
    return b;
  }
};

template <>
struct Quads<Precision::bf16> {
  using P = Product<Precision::bf16>;
  static constexpr int parts = 1;
  NCAFAST_DEVICE static P::Left left(const float4& low, const float4& high, int) {
    return {{to_bf16x2(low.x, low.y), to_bf16x2(high.x, high.y), to_bf16x2(low.z, low.w), to_bf16x2(high.z, high.w)}};
  }
  NCAFAST_DEVICE static P::Right right(const float4& q, int) { return {{to_bf16x2(q.x, q.y), to_bf16x2(q.z, q.w)}}; }
};

NCAFAST_DEVICE const float4& quad_of(const float* from) { return *reinterpret_cast<const float4*>(from); }

NCAFAST_DEVICE float dot4(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// Float32: a lane has rows g and g + 8 and outputs 2t and 2t + 1 whole. Two blocks of outputs at a time: with all four
// a lane would hold more than its registers.
NCAFAST_DEVICE void add_exact(const Rows& rows, int terms, const Outputs& outputs, int own, Sums& sums) {
  constexpr int together = 2;
  const float* left = rows.from + lane_g() * rows.row;
  const float* right = outputs.weights + (8 * layer_warp() + 2 * lane_t()) * outputs.stride;
#pragma unroll
  for (int first = 0; first < output_tiles; first += together) {
    if (first >= own) break;
#pragma unroll 1
    for (int k = 0; k < terms; k += 4) {
      float4 b[together][2];
#pragma unroll
      for (int j = 0; j < together; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (first + j < own) b[j][i] = quad_of(right + (8 * layer_warps * (first + j) + i) * outputs.stride + k);
#pragma unroll
      for (int m = 0; m < row_tiles; ++m) {
        if (m >= rows.tiles) break;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float4 a = quad_of(left + (16 * m + 8 * half) * rows.row + k);
#pragma unroll
          for (int j = 0; j < together; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i)
              if (first + j < own)
                sums[m][first + j][2 * half + i] = dot4(a, b[j][i], sums[m][first + j][2 * half + i]);
        }
      }
    }
  }
}

// `own`: blocks of 8 outputs that are this warp's.
template <Precision precision, int own>
NCAFAST_DEVICE void add_quads(const Rows& rows, int terms, const Outputs& outputs, Sums& sums) {
  using Q = Quads<precision>;
  const float* left = rows.from + lane_g() * rows.row + 4 * lane_t();
  const float* right = outputs.weights + (8 * layer_warp() + lane_g()) * outputs.stride + 4 * lane_t();
  float4 next[own];
  const auto fetch = [&](int k) {
#pragma unroll
    for (int j = 0; j < own; ++j) next[j] = quad_of(right + 8 * layer_warps * j * outputs.stride + k);
  };
  fetch(0);
#pragma unroll 1
  for (int k = 0; k < terms; k += 16) {
    typename Q::P::Right b[own][Q::parts];
#pragma unroll
    for (int j = 0; j < own; ++j)
#pragma unroll
      for (int part = 0; part < Q::parts; ++part) b[j][part] = Q::right(next[j], part);
    if (k + 16 < terms) fetch(k + 16);
#pragma unroll
    for (int m = 0; m < row_tiles; ++m) {
      if (m >= rows.tiles) break;
      const float4 low = quad_of(left + 16 * m * rows.row + k), high = quad_of(left + (16 * m + 8) * rows.row + k);
#pragma unroll
      for (int part = 0; part < Q::parts; ++part) {
        const auto a = Q::left(low, high, part);
#pragma unroll
        for (int j = 0; j < own; ++j) Q::P::add(sums[m][j], a, b[j][part]);
      }
    }
  }
}

// sums += rows times outputs, over so many terms, a multiple of 16.
template <Precision precision>
NCAFAST_DEVICE void add_product(const Rows& rows, int terms, const Outputs& outputs, Sums& sums) {
  const int own = own_outputs(outputs.count);
  if constexpr (precision == Precision::ieee) {
    add_exact(rows, terms, outputs, own, sums);
  } else {
    if (own == 4)
      add_quads<precision, 4>(rows, terms, outputs, sums);
    else if (own == 3)
      add_quads<precision, 3>(rows, terms, outputs, sums);
    else if (own == 2)
      add_quads<precision, 2>(rows, terms, outputs, sums);
    else if (own == 1)
      add_quads<precision, 1>(rows, terms, outputs, sums);
  }
}

// Calls work(row, output, pair) for what this lane has of the sums: outputs `output` and the one after it.
template <class Work>
NCAFAST_DEVICE void each_pair(int tiles, int count, Sums& sums, Work work) {
  const int own = own_outputs(count);
#pragma unroll
  for (int m = 0; m < row_tiles; ++m) {
    if (m >= tiles) continue;
#pragma unroll
    for (int j = 0; j < output_tiles; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        if (j < own) work(16 * m + 8 * half + lane_g(), first_output(j) + 2 * lane_t(), sums[m][j] + 2 * half);
  }
}

}  // namespace ncafast::cuda
