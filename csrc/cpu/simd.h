// Vectors of NCAFAST_WIDTH floats in the compiler's own vector types. Included by each instruction set's file after it
// has switched the target; everything lies in that file's namespace.

constexpr int W = NCAFAST_WIDTH;
typedef float vec __attribute__((vector_size(4 * W)));
typedef float vec_memory __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * W)));
typedef uint32_t uvec_memory __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * W)));
typedef uint64_t wide __attribute__((vector_size(4 * W)));  // W / 2 lanes

#define NCAFAST_INLINE static inline __attribute__((always_inline))

NCAFAST_INLINE vec load(const float* p) { return *reinterpret_cast<const vec_memory*>(p); }
NCAFAST_INLINE void store(float* p, vec v) { *reinterpret_cast<vec_memory*>(p) = v; }
NCAFAST_INLINE vec all(float x) { return x - vec{}; }
NCAFAST_INLINE vec keep(vec v, const uint32_t* bits) {
  return (vec)((uvec)v & *reinterpret_cast<const uvec_memory*>(bits));
}

// The first n floats of v; the others in memory stay as they are, whoever may be writing them.
NCAFAST_INLINE void store_first(float* p, vec v, int n) {
#if NCAFAST_WIDTH == 16 && defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}
