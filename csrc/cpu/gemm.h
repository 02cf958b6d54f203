// Small matrix products on packed operands: D [M, N] (+)= A [M, K] B [K, N], with a(m, k) = a[m * am + k * ak].
// A is read by broadcast, B and D by vectors, so A may be transposed for free. Rows are done in groups that fill the
// registers; the last group may write up to 23 rows past M, which the buffers have room for. `gate` lies as D does.

enum class Start { zero, bias, add };
enum class End { none, relu, relu_slope };  // the last one: times the derivative of ReLU where it gave `gate`

// The factors as they are, and sums of their products.
struct Singles {
  typedef float value;
  NCAFAST_INLINE vec column(const float* b) { return load(b); }
  NCAFAST_INLINE vec row(const float* a) { return all(*a); }
  NCAFAST_INLINE vec add(vec sum, vec a, vec b) { return a * b + sum; }
};

#ifdef NCAFAST_BF16
// Two values of each factor at a time, in bfloat16.
struct Pairs {
  typedef uint32_t value;
  NCAFAST_INLINE vec column(const uint32_t* b) { return load(reinterpret_cast<const float*>(b)); }
  NCAFAST_INLINE vec row(const uint32_t* a) { return (vec)_mm512_set1_epi32(static_cast<int>(*a)); }
  NCAFAST_INLINE vec add(vec sum, vec a, vec b) { return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b); }
};
#endif

NCAFAST_INLINE vec relu(vec v) { return v < 0.0f ? vec{} : v; }  // a NaN stays one
NCAFAST_INLINE vec relu_slope(vec gate, vec g) {
  return gate <= 0.0f ? vec{} : g;
}  // a NaN lets g through, as in torch

// Rows of D held in registers beside NV vectors of columns; all divide 24. (AVX2, EPYC 25-1, 2026-11-29: with two
// vectors four rows, whose eight sums just hide the latency of the FMA, reach 95 % of the peak for K = 16 and 97 % for
// K = 48; six rows 78 and 91 %.)
template <int NV>
constexpr int rows_of() {
#if NCAFAST_REGISTERS == 32
  return NV == 1 ? 12 : NV == 2 ? 12 : NV == 3 ? 8 : 6;
#else
  return NV == 1 ? 8 : 4;
#endif
}

// A number that the compiler knows, as an argument.
template <int N>
struct Number {
  static constexpr int value = N;
};

template <class Factors, int NV, int MR, Start START, End END>
NCAFAST_INLINE void micro(int64_t K, const typename Factors::value* a, int64_t am, int64_t ak,
                          const typename Factors::value* b, int64_t ldb, const float* bias, float* d, int64_t ldd,
                          const float* gate) {
  vec sum[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      if constexpr (START == Start::zero) sum[i][j] = vec{};
      if constexpr (START == Start::bias) sum[i][j] = load(bias + j * W);
      if constexpr (START == Start::add) sum[i][j] = load(d + i * ldd + j * W);
    }
  for (int64_t k = 0; k < K; ++k, a += ak, b += ldb) {
    vec column[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) column[j] = Factors::column(b + j * W);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const vec value = Factors::row(a + i * am);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) sum[i][j] = Factors::add(sum[i][j], value, column[j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      if constexpr (END == End::relu) sum[i][j] = relu(sum[i][j]);
      if constexpr (END == End::relu_slope) sum[i][j] = relu_slope(load(gate + i * ldd + j * W), sum[i][j]);
      store(d + i * ldd + j * W, sum[i][j]);
    }
}

template <class Factors, int NV, Start START, End END>
static void panel(int64_t M, int64_t K, const typename Factors::value* a, int64_t am, int64_t ak,
                  const typename Factors::value* b, int64_t ldb, const float* bias, float* d, int64_t ldd,
                  const float* gate) {
  const auto rows = [&](auto group) {
    constexpr int MR = decltype(group)::value;
    for (int64_t m = 0; m < M; m += MR)
      micro<Factors, NV, MR, START, END>(K, a + m * am, am, ak, b, ldb, bias, d + m * ldd, ldd,
                                         END == End::relu_slope ? gate + m * ldd : nullptr);
  };
  // The largest group costs the fewest reads, unless a smaller one leaves fewer rows for nothing.
  constexpr int most = rows_of<NV>(), fewer = most == 12 ? 8 : most;
  if (round_up(M, fewer) < round_up(M, most))
    rows(Number<fewer>{});
  else
    rows(Number<most>{});
}

// All strips of columns.
template <Start START, End END = End::none, class Factors = Singles>
static void strips(int64_t M, int64_t N, int64_t K, const typename Factors::value* a, int64_t am, int64_t ak,
                   const typename Factors::value* b, int64_t ldb, const float* bias, float* d, int64_t ldd,
                   const float* gate) {
  int64_t left = N / W;
  while (left > 0) {
#if NCAFAST_REGISTERS == 32
    // 5 and 6 vectors go as 3 + 2 and 3 + 3, so that no lone vector is left over.
    const int64_t now = left > 6 || left == 4 ? 4 : left >= 3 ? 3 : left;
#else
    const int64_t now = left == 3 ? 3 : left >= 2 ? 2 : 1;
#endif
    switch (now) {
#if NCAFAST_REGISTERS == 32
      case 4:
        panel<Factors, 4, START, END>(M, K, a, am, ak, b, ldb, bias, d, ldd, gate);
        break;
#endif
      case 3:
        panel<Factors, 3, START, END>(M, K, a, am, ak, b, ldb, bias, d, ldd, gate);
        break;
      case 2:
        panel<Factors, 2, START, END>(M, K, a, am, ak, b, ldb, bias, d, ldd, gate);
        break;
      default:
        panel<Factors, 1, START, END>(M, K, a, am, ak, b, ldb, bias, d, ldd, gate);
    }
    left -= now;
    b += now * W;
    d += now * W;
    if constexpr (START == Start::bias) bias += now * W;
    if constexpr (END == End::relu_slope) gate += now * W;
  }
}

// N is a multiple of W. A large K is taken in stretches, of which a strip of B stays in the nearest cache.
// (AVX2, EPYC 25-1, one thread, 2026-11-29: forward with weights of 640 x 128, 20.1 instead of 21.1 ms per step.)
template <Start START, End END = End::none, class Factors = Singles>
static void gemm(int64_t M, int64_t N, int64_t K, const typename Factors::value* a, int64_t am, int64_t ak,
                 const typename Factors::value* b, int64_t ldb, const float* bias, float* d, int64_t ldd,
                 const float* gate = nullptr) {
  constexpr int64_t stretch = 256;
  if (K <= stretch) return strips<START, END, Factors>(M, N, K, a, am, ak, b, ldb, bias, d, ldd, gate);
  strips<START, End::none, Factors>(M, N, stretch, a, am, ak, b, ldb, bias, d, ldd, gate);
  for (K -= stretch; K > stretch; K -= stretch) {
    a += stretch * ak, b += stretch * ldb;
    strips<Start::add, End::none, Factors>(M, N, stretch, a, am, ak, b, ldb, bias, d, ldd, gate);
  }
  a += stretch * ak, b += stretch * ldb;
  strips<Start::add, END, Factors>(M, N, K, a, am, ak, b, ldb, bias, d, ldd, gate);
}

// sums [N] += columns of a [M, N]. Four sums of each column, so that an addition need not wait for the one before.
static void add_columns(int64_t M, int64_t N, const float* a, int64_t lda, float* sums) {
  for (int64_t n = 0; n < N; n += W) {
    vec sum[4] = {load(sums + n)};
    int64_t m = 0;
    for (; m + 4 <= M; m += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] += load(a + (m + i) * lda + n);
    for (; m < M; ++m) sum[0] += load(a + m * lda + n);
    store(sums + n, (sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
}
