// Products of small matrices by one warp, for each way of rounding their operands: fragments, and d += a b.
//
// A product has 16 rows, 8 columns and `k` terms. Lane l has g = l / 4 and t = l % 4; it holds rows g and g + 8 and
// columns 2t and 2t + 1 of the sum. Which of the k terms its operands belong to is the Order, the same for both:
// `natural` t and t + 4, `paired` 2t and 2t + 1, which is how a sum becomes the left operand of the next product
// without leaving its registers. Operands for tf32 and bf16 arrive rounded or not as said at each function.
#pragma once

#include <type_traits>

#include "device.h"
#include "shape.h"

namespace ncafast::cuda {

enum class Order { natural, paired };

// Element (i, k) of an operand at from[i * row + k], or at from[k * row + i].
struct ByRow {
  const float* from;
  int row;
  NCAFAST_DEVICE float operator()(int i, int k) const { return from[i * row + k]; }
};
struct ByTerm {
  const float* from;
  int row;
  NCAFAST_DEVICE float operator()(int i, int k) const { return from[k * row + i]; }
};

NCAFAST_DEVICE int lane_g() { return static_cast<int>(threadIdx.x) % 32 / 4; }
NCAFAST_DEVICE int lane_t() { return static_cast<int>(threadIdx.x) % 4; }

template <Order order>
NCAFAST_DEVICE int term(int number) {
  return order == Order::paired ? 2 * lane_t() + number : lane_t() + 4 * number;
}

// Four 8 x 4 pieces of 16 rows and 8 terms in the natural order: what a lane holds of them are 32 bits each, as if they
// were 8 x 8 of 16 bits. Rows start at multiples of 16 bytes. `left`: both halves of the rows, then of the terms, as a
// left operand has them; else the other way round, two right ones.
template <bool left>
NCAFAST_DEVICE const float* piece_row(const ByRow& m) {
  const int lane = static_cast<int>(threadIdx.x) % 32, piece = lane / 8;
  const int down = left ? piece % 2 : piece / 2, along = left ? piece / 2 : piece % 2;
  return m.from + (lane % 8 + 8 * down) * m.row + 4 * along;
}

// 16 rows of which a loop takes operands term after term, in the natural order: a left one of all, or two right ones.
template <class P, bool is_left>
class Walk {
 public:
  NCAFAST_DEVICE explicit Walk(const ByRow& m) : m_(m) {
    if constexpr (P::by_pieces) place_ = shared_place(piece_row<is_left>(m));
  }
  // From term k on.
  NCAFAST_DEVICE typename P::Left left(int k) const {
    if constexpr (P::by_pieces) {
      uint32_t pieces[4];
      load_matrix_x4(pieces, place_ + 4 * k);
      return P::left_of(pieces);
    } else {
      return P::template left<Order::natural>(ByRow{m_.from + k, m_.row});
    }
  }
  NCAFAST_DEVICE void rights(int k, typename P::Right (&b)[2]) const {
    if constexpr (P::by_pieces) {
      uint32_t pieces[4];
      load_matrix_x4(pieces, place_ + 4 * k);
      b[0] = P::right_of(pieces[0], pieces[1]);
      b[1] = P::right_of(pieces[2], pieces[3]);
    } else {
      b[0] = P::template right<Order::natural>(ByRow{m_.from + k, m_.row});
      b[1] = P::template right<Order::natural>(ByRow{m_.from + 8 * m_.row + k, m_.row});
    }
  }

 private:
  ByRow m_;
  SharedPlace place_{};
};

template <Precision>
struct Product;

// A left operand of 16 neighbours a term, terms `row` floats apart and paired, which is what products that are not made
// by pieces have anyway. Of every two neighbours the first is in a row g, the second in row g + 8: so two loads of two
// floats do where four of one would. `from` is even, `row` 4 times an odd number: different banks.
struct TwoByTwo {
  const float* from;
  int row;
  NCAFAST_DEVICE float operator()(int i, int k) const { return from[k * row + i % 8 * 2 + i / 8]; }
};

template <class P>
NCAFAST_DEVICE typename P::Left left_by_two(const float* from, int row) {
  if constexpr (P::by_pieces) {
    const float* at = from + 2 * lane_t() * row + 2 * lane_g();
    const float2 one = *reinterpret_cast<const float2*>(at), two = *reinterpret_cast<const float2*>(at + row);
    return P::left_of({__float_as_uint(one.x), __float_as_uint(one.y), __float_as_uint(two.x), __float_as_uint(two.y)});
  } else {
    return P::template left<Order::paired>(TwoByTwo{from, row});
  }
}

// Operands in memory are rounded already (`rounded`), those from registers are rounded here.
template <>
struct Product<Precision::tf32> {
  static constexpr int k = 8;
  static constexpr bool by_pieces = true;
  struct Left {
    uint32_t r[4];
  };
  struct Right {
    uint32_t r[2];
  };

  NCAFAST_DEVICE static float rounded(float value) { return __uint_as_float(to_tf32(value)); }
  // Four for what only products read: the 13 bits that they leave out are not cleared.
  NCAFAST_DEVICE static void make_operands(float (&four)[4]) { add_half_tf32(four); }
  // The same of what is not below 0, or NaN, in one instruction: infinity looks like NaN to all but products.
  NCAFAST_DEVICE static float rounded_positive(float value) {
    return __uint_as_float(add_min(__float_as_uint(value), 0x1000u, 0x7fffffffu));
  }

  template <Order order, class Matrix>
  NCAFAST_DEVICE static Left left(const Matrix& m) {
    const int g = lane_g();
    Left a;
#pragma unroll
    for (int i = 0; i < 4; ++i) a.r[i] = __float_as_uint(m(g + i % 2 * 8, term<order>(i / 2)));
    return a;
  }
  template <Order order, class Matrix>
  NCAFAST_DEVICE static Right right(const Matrix& m) {
    const int g = lane_g();
    if constexpr (order == Order::paired && std::is_same_v<Matrix, ByRow>) {  // rows and terms start at even places
      const float2 two = *reinterpret_cast<const float2*>(m.from + g * m.row + 2 * lane_t());
      return {{__float_as_uint(two.x), __float_as_uint(two.y)}};
    }
    return {{__float_as_uint(m(g, term<order>(0))), __float_as_uint(m(g, term<order>(1)))}};
  }
  NCAFAST_DEVICE static Left left_of(const uint32_t (&pieces)[4]) {
    return {{pieces[0], pieces[1], pieces[2], pieces[3]}};
  }
  NCAFAST_DEVICE static Right right_of(uint32_t first, uint32_t second) { return {{first, second}}; }
  // A sum as left operand, paired; `done`: it has been through `rounded` or `rounded_positive`.
  template <bool done = false>
  NCAFAST_DEVICE static Left chained(const float (*sum)[4]) {
    Left a;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float value = sum[0][i % 2 * 2 + i / 2];
      a.r[i] = done ? __float_as_uint(value) : to_tf32(value);
    }
    return a;
  }
  // Rows 0 to 7 and 8 to 15 of a sum of `k` columns as right operands, paired, of values made operands before.
  NCAFAST_DEVICE static void chained_rights(const float (*sum)[4], Right (&b)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) b[i] = right_of(__float_as_uint(sum[0][2 * i]), __float_as_uint(sum[0][2 * i + 1]));
  }
  NCAFAST_DEVICE static void add(float (&d)[4], const Left& a, const Right& b) {
    mma_m16n8k8_tf32(d, a.r, b.r[0], b.r[1]);
  }
};

// Three products of TF32 parts: an operand is the sum of two, 21 bits of mantissa in all.
template <>
struct Product<Precision::tf32x3> {
  static constexpr int k = 8;
  static constexpr bool by_pieces = true;
  struct Left {
    uint32_t high[4], low[4];
  };
  struct Right {
    uint32_t high[2], low[2];
  };

  NCAFAST_DEVICE static float rounded(float value) { return value; }
  NCAFAST_DEVICE static void make_operands(float (&)[4]) {}
  NCAFAST_DEVICE static float rounded_positive(float value) { return value; }
  NCAFAST_DEVICE static void split(float value, uint32_t& high, uint32_t& low) {
    high = to_tf32(value);
    low = to_tf32(value - __uint_as_float(high));
  }

  template <Order order, class Matrix>
  NCAFAST_DEVICE static Left left(const Matrix& m) {
    const int g = lane_g();
    Left a;
#pragma unroll
    for (int i = 0; i < 4; ++i) split(m(g + i % 2 * 8, term<order>(i / 2)), a.high[i], a.low[i]);
    return a;
  }
  template <Order order, class Matrix>
  NCAFAST_DEVICE static Right right(const Matrix& m) {
    const int g = lane_g();
    Right b;
#pragma unroll
    for (int i = 0; i < 2; ++i) split(m(g, term<order>(i)), b.high[i], b.low[i]);
    return b;
  }
  NCAFAST_DEVICE static Left left_of(const uint32_t (&pieces)[4]) {
    Left a;
#pragma unroll
    for (int i = 0; i < 4; ++i) split(__uint_as_float(pieces[i]), a.high[i], a.low[i]);
    return a;
  }
  NCAFAST_DEVICE static Right right_of(uint32_t first, uint32_t second) {
    Right b;
    split(__uint_as_float(first), b.high[0], b.low[0]);
    split(__uint_as_float(second), b.high[1], b.low[1]);
    return b;
  }
  template <bool done = false>
  NCAFAST_DEVICE static Left chained(const float (*sum)[4]) {
    Left a;
#pragma unroll
    for (int i = 0; i < 4; ++i) split(sum[0][i % 2 * 2 + i / 2], a.high[i], a.low[i]);
    return a;
  }
  NCAFAST_DEVICE static void chained_rights(const float (*sum)[4], Right (&b)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) b[i] = right_of(__float_as_uint(sum[0][2 * i]), __float_as_uint(sum[0][2 * i + 1]));
  }
  NCAFAST_DEVICE static void add(float (&d)[4], const Left& a, const Right& b) {
    mma_m16n8k8_tf32(d, a.low, b.high[0], b.high[1]);
    mma_m16n8k8_tf32(d, a.high, b.low[0], b.low[1]);
    mma_m16n8k8_tf32(d, a.high, b.high[0], b.high[1]);
  }
};

// Rounded when a fragment is made. A register holds two neighbouring terms, so that both orders are the same.
template <>
struct Product<Precision::bf16> {
  static constexpr int k = 16;
  static constexpr bool by_pieces = false;
  struct Left {
    uint32_t r[4];
  };
  struct Right {
    uint32_t r[2];
  };

  NCAFAST_DEVICE static float rounded(float value) { return value; }
  NCAFAST_DEVICE static void make_operands(float (&)[4]) {}
  NCAFAST_DEVICE static float rounded_positive(float value) { return value; }

  template <Order order, class Matrix>
  NCAFAST_DEVICE static Left left(const Matrix& m) {
    const int g = lane_g(), t = lane_t();
    Left a;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = g + i % 2 * 8, term = 2 * t + i / 2 * 8;
      a.r[i] = to_bf16x2(m(row, term), m(row, term + 1));
    }
    return a;
  }
  template <Order order, class Matrix>
  NCAFAST_DEVICE static Right right(const Matrix& m) {
    const int g = lane_g(), t = lane_t();
    return {{to_bf16x2(m(g, 2 * t), m(g, 2 * t + 1)), to_bf16x2(m(g, 2 * t + 8), m(g, 2 * t + 9))}};
  }
  template <bool done = false>
  NCAFAST_DEVICE static Left chained(const float (*sum)[4]) {
    return {{to_bf16x2(sum[0][0], sum[0][1]), to_bf16x2(sum[0][2], sum[0][3]), to_bf16x2(sum[1][0], sum[1][1]),
             to_bf16x2(sum[1][2], sum[1][3])}};
  }
  NCAFAST_DEVICE static void chained_rights(const float (*sum)[4], Right (&b)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      b[i] = {{to_bf16x2(sum[0][2 * i], sum[0][2 * i + 1]), to_bf16x2(sum[1][2 * i], sum[1][2 * i + 1])}};
  }
  NCAFAST_DEVICE static void add(float (&d)[4], const Left& a, const Right& b) {
    mma_m16n8k16_bf16(d, a.r, b.r[0], b.r[1]);
  }
};

// Float32 throughout: every lane holds its two rows and two columns whole, in the natural order of terms.
template <>
struct Product<Precision::ieee> {
  static constexpr int k = 8;
  static constexpr bool by_pieces = false;
  struct Left {
    float row[2][8];
  };
  struct Right {
    float column[2][8];
  };

  NCAFAST_DEVICE static float rounded(float value) { return value; }
  NCAFAST_DEVICE static void make_operands(float (&)[4]) {}
  NCAFAST_DEVICE static float rounded_positive(float value) { return value; }

  NCAFAST_DEVICE static void eight(const ByRow& m, int i, float (&to)[8]) {
    const float4* from = reinterpret_cast<const float4*>(m.from + i * m.row);  // rows and terms are multiples of 4
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float4 four = from[j];
      to[4 * j] = four.x;
      to[4 * j + 1] = four.y;
      to[4 * j + 2] = four.z;
      to[4 * j + 3] = four.w;
    }
  }
  template <class Matrix>
  NCAFAST_DEVICE static void eight(const Matrix& m, int i, float (&to)[8]) {
#pragma unroll
    for (int j = 0; j < 8; ++j) to[j] = m(i, j);
  }

  template <Order order, class Matrix>
  NCAFAST_DEVICE static Left left(const Matrix& m) {
    Left a;
    eight(m, lane_g(), a.row[0]);
    eight(m, lane_g() + 8, a.row[1]);
    return a;
  }
  template <Order order, class Matrix>
  NCAFAST_DEVICE static Right right(const Matrix& m) {
    Right b;
    eight(m, 2 * lane_t(), b.column[0]);
    eight(m, 2 * lane_t() + 1, b.column[1]);
    return b;
  }
  // The four lanes of a row tell each other their columns.
  template <bool done = false>
  NCAFAST_DEVICE static Left chained(const float (*sum)[4]) {
    const int first = static_cast<int>(threadIdx.x) % 32 / 4 * 4;
    Left a;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) a.row[i][j] = __shfl_sync(0xffffffffu, sum[0][2 * i + j % 2], first + j / 2);
    return a;
  }
  NCAFAST_DEVICE static void chained_rights(const float (*sum)[4], Right (&b)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int column = 0; column < 2; ++column)
#pragma unroll
        for (int j = 0; j < 8; ++j)
          b[i].column[column][j] = __shfl_sync(0xffffffffu, sum[0][2 * i + j % 2], 4 * (2 * lane_t() + column) + j / 2);
  }
  NCAFAST_DEVICE static void add(float (&d)[4], const Left& a, const Right& b) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j)
#pragma unroll
        for (int term = 0; term < 8; ++term) d[2 * i + j] = fmaf(a.row[i][term], b.column[j][term], d[2 * i + j]);
  }
};

}  // namespace ncafast::cuda
