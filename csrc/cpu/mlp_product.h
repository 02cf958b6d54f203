// Products of the MLP: of the cells' rows a [M, K] and a layer's weights, in the precision of this file's kernels.

#ifdef NCAFAST_BF16
// Rows in bfloat16, zeros past K.
static void to_pairs(int64_t M, int64_t K, const float* a, int64_t lda, uint32_t* to, int64_t ld) {
  for (int64_t m = 0; m < M; ++m)
    for (int64_t k = 0; k < K; k += 2 * W) {
      const float* from = a + m * lda + k;
      const int64_t left = K - k;
      const vec low = left >= W ? load(from) : load_first(from, static_cast<int>(left));
      const vec high = left >= 2 * W ? load(from + W)
                       : left > W    ? load_first(from + W, static_cast<int>(left - W))
                                     : vec{};
      store(reinterpret_cast<float*>(to + m * ld + k / 2), (vec)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
    }
}
#endif

template <Start START, End END = End::none>
static void mlp_product(const Scratch& s, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const Factor& b,
                        const float* bias, float* d, int64_t ldd, const float* gate = nullptr) {
#ifdef NCAFAST_BF16
  const int64_t ld = round_up(K, 2 * W) / 2;
  to_pairs(M, K, a, lda, s.pairs, ld);
  gemm<START, END, Pairs>(M, N, (K + 1) / 2, s.pairs, ld, 1, b.pairs, row_stride(N, W), bias, d, ldd, gate);
#else
  (void)s;
  gemm<START, END>(M, N, K, a, lda, 1, b.floats, row_stride(N, W), bias, d, ldd, gate);
#endif
}
