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
// A loop that takes all registers: inlined into another one, it would have to share them.
#define NCAFAST_APART static __attribute__((noinline))

NCAFAST_INLINE vec load(const float* p) { return *reinterpret_cast<const vec_memory*>(p); }
NCAFAST_INLINE void store(float* p, vec v) { *reinterpret_cast<vec_memory*>(p) = v; }
NCAFAST_INLINE vec all(float x) { return x - vec{}; }
NCAFAST_INLINE vec keep(vec v, const uint32_t* bits) {
  return (vec)((uvec)v & *reinterpret_cast<const uvec_memory*>(bits));
}

// The first n < W floats of memory, zeros after them; and the first n floats of v to memory, where the others stay as
// they are, whoever may be writing them.
#if NCAFAST_WIDTH == 16
NCAFAST_INLINE vec load_first(const float* p, int n) {
  return (vec)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
NCAFAST_INLINE void store_first(float* p, vec v, int n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
}
#elif NCAFAST_WIDTH == 8
NCAFAST_INLINE __m256i first_lanes(int n) { return (__m256i)(ivec{0, 1, 2, 3, 4, 5, 6, 7} < n); }
NCAFAST_INLINE vec load_first(const float* p, int n) { return (vec)_mm256_maskload_ps(p, first_lanes(n)); }
NCAFAST_INLINE void store_first(float* p, vec v, int n) { _mm256_maskstore_ps(p, first_lanes(n), (__m256)v); }
#else
NCAFAST_INLINE vec load_first(const float* p, int n) {
  vec v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
NCAFAST_INLINE void store_first(float* p, vec v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}
#endif
