// The words of CUDA C++: keywords, vector types, indices, barriers, warp functions, atomics, arithmetic.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "schedule.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

#define threadIdx (shim::self->index)
#define blockIdx (shim::self->block->index)
#define blockDim (shim::now->kernel->block)
#define gridDim (shim::now->kernel->grid)
constexpr int warpSize = 32;

#define SHIM_VECTORS(T, name, align2, align4)                        \
  struct alignas(align2) name##2 { T x, y; };                        \
  struct name##3 { T x, y, z; };                                     \
  struct alignas(align4) name##4 { T x, y, z, w; };                  \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SHIM_VECTORS(float, float, 8, 16)
SHIM_VECTORS(int, int, 8, 16)
SHIM_VECTORS(unsigned, uint, 8, 16)
SHIM_VECTORS(unsigned char, uchar, 2, 4)
SHIM_VECTORS(unsigned short, ushort, 4, 8)
#undef SHIM_VECTORS
struct alignas(16) double2 {
  double x, y;
};
inline double2 make_double2(double x, double y) { return {x, y}; }

// ---- barriers of a block

inline void __syncthreads() { shim::arrive(shim::self->block->barriers[0], shim::self->block->alive, "__syncthreads"); }
inline int __syncthreads_count(int predicate) {
  shim::Thread* me = shim::self;
  shim::arrive(me->block->barriers[0], me->block->alive, "__syncthreads_count", predicate != 0);
  return static_cast<int>(me->votes);
}
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
inline int __syncthreads_and(int predicate) { return __syncthreads_count(predicate == 0) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { shim::look(); }

// ---- warps

inline unsigned __activemask() { shim::fail("__activemask has no meaning here, nor a sure one on a device"); }

inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  int nothing = 0;
  shim::meet(mask, "__syncwarp", nothing, [](int*(&)[32]) {});
}

namespace shim {
template <class T>
struct Shuffle {
  T value, found;
  int from;
};
// Lanes that name one outside the mask have no value on a device; here they get bytes of ones, NaN as a float.
template <class T>
T shuffle(uint32_t mask, const char* what, T value, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  Shuffle<T> mine{value, value, from};
  meet(mask, what, mine, [](Shuffle<T>*(&lanes)[32]) {
    for (auto* lane : lanes) {
      if (!lane) continue;
      if (lanes[lane->from]) {
        lane->found = lanes[lane->from]->value;
      } else {
        std::memset(&lane->found, 0xff, sizeof(T));
      }
    }
  });
  return mine.found;
}
inline int lane() { return static_cast<int>(self->linear % 32); }
struct Vote {
  uint32_t value, result;
};
template <class Fold>
uint32_t vote(uint32_t mask, const char* what, uint32_t value, Fold fold) {
  Vote mine{value, 0};
  meet(mask, what, mine, [fold](Vote*(&lanes)[32]) {
    bool first = true;
    uint32_t total = 0;
    for (int i = 0; i < 32; ++i) {
      if (!lanes[i]) continue;
      total = first ? fold(i, lanes[i]->value) : fold(i, total, lanes[i]->value);
      first = false;
    }
    for (auto* lane : lanes) {
      if (lane) lane->result = total;
    }
  });
  return mine.result;
}
template <class Fold>
struct Reduce {
  Fold fold;
  uint32_t operator()(int, uint32_t value) const { return value; }
  uint32_t operator()(int, uint32_t total, uint32_t value) const { return fold(total, value); }
};
template <class Fold>
uint32_t reduce(uint32_t mask, const char* what, uint32_t value, Fold fold) {
  return vote(mask, what, value, Reduce<Fold>{fold});
}
struct Ballot {
  uint32_t operator()(int lane, uint32_t value) const { return (value != 0) << lane; }
  uint32_t operator()(int lane, uint32_t total, uint32_t value) const { return total | (uint32_t{value != 0} << lane); }
};
}  // namespace shim

template <class T>
T __shfl_sync(uint32_t mask, T value, int from, int width = 32) {
  return shim::shuffle(mask, "__shfl_sync", value, (shim::lane() & ~(width - 1)) | (from & (width - 1)));
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int with, int width = 32) {
  const int from = shim::lane() ^ with;
  return shim::shuffle(mask, "__shfl_xor_sync", value, from / width > shim::lane() / width ? shim::lane() : from);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32) {
  const int from = shim::lane() - static_cast<int>(by);
  return shim::shuffle(mask, "__shfl_up_sync", value, from < (shim::lane() & ~(width - 1)) ? shim::lane() : from);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32) {
  const int from = shim::lane() + static_cast<int>(by);
  return shim::shuffle(mask, "__shfl_down_sync", value, from > (shim::lane() | (width - 1)) ? shim::lane() : from);
}
inline unsigned __ballot_sync(uint32_t mask, int predicate) {
  return shim::vote(mask, "__ballot_sync", predicate != 0, shim::Ballot{});
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate == 0) == 0; }
inline unsigned __reduce_add_sync(uint32_t mask, unsigned value) {
  return shim::reduce(mask, "__reduce_add_sync", value, [](uint32_t a, uint32_t b) { return a + b; });
}
inline int __reduce_add_sync(uint32_t mask, int value) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value)));
}
inline unsigned __reduce_min_sync(uint32_t mask, unsigned value) {
  return shim::reduce(mask, "__reduce_min_sync", value, [](uint32_t a, uint32_t b) { return a < b ? a : b; });
}
inline unsigned __reduce_max_sync(uint32_t mask, unsigned value) {
  return shim::reduce(mask, "__reduce_max_sync", value, [](uint32_t a, uint32_t b) { return a > b ? a : b; });
}
inline unsigned __reduce_or_sync(uint32_t mask, unsigned value) {
  return shim::reduce(mask, "__reduce_or_sync", value, [](uint32_t a, uint32_t b) { return a | b; });
}
inline unsigned __reduce_and_sync(uint32_t mask, unsigned value) {
  return shim::reduce(mask, "__reduce_and_sync", value, [](uint32_t a, uint32_t b) { return a & b; });
}

// ---- atomics: one thread runs at a time, so that nothing can come between

namespace shim {
template <class T, class Change>
T atomic(T* at, Change change) {
#if defined(__SANITIZE_THREAD__)
  T before = __atomic_load_n(at, __ATOMIC_RELAXED), after = change(before);
  __atomic_store_n(at, after, __ATOMIC_RELAXED);
#else
  const T before = *at;
  *at = change(before);
#endif
  return before;
}
template <class T>
using same = std::common_type_t<T>;  // an argument that does not take part in deduction
}  // namespace shim

inline float atomicAdd(float* at, float value) {
  uint32_t bits = shim::atomic(reinterpret_cast<uint32_t*>(at), [value](uint32_t before) {
    float number;
    std::memcpy(&number, &before, 4);
    number += value;
    std::memcpy(&before, &number, 4);
    return before;
  });
  float before;
  std::memcpy(&before, &bits, 4);
  return before;
}
template <class T>
T atomicAdd(T* at, shim::same<T> value) {
  static_assert(std::is_integral_v<T>, "floats have their own");
  return shim::atomic(at, [value](T before) { return static_cast<T>(before + value); });
}
template <class T>
T atomicMax(T* at, shim::same<T> value) {
  return shim::atomic(at, [value](T before) { return before > value ? before : value; });
}
template <class T>
T atomicMin(T* at, shim::same<T> value) {
  return shim::atomic(at, [value](T before) { return before < value ? before : value; });
}
template <class T>
T atomicOr(T* at, shim::same<T> value) {
  return shim::atomic(at, [value](T before) { return before | value; });
}
template <class T>
T atomicAnd(T* at, shim::same<T> value) {
  return shim::atomic(at, [value](T before) { return before & value; });
}
template <class T>
T atomicExch(T* at, shim::same<T> value) {
  return shim::atomic(at, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* at, shim::same<T> expected, shim::same<T> value) {
  return shim::atomic(at, [=](T before) { return before == expected ? value : before; });
}

// ---- arithmetic and plain memory

inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>((uint64_t{a} * b) >> 32); }
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline int __float_as_int(float value) { return static_cast<int>(__float_as_uint(value)); }
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<uint32_t>(bits)); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline float rsqrtf(float value) { return 1 / std::sqrt(value); }
inline float __saturatef(float value) { return value > 0 ? (value < 1 ? value : 1.0f) : 0.0f; }  // NaN gives 0
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float value) { return 1 / value; }
#define __expf expf  // the C library has these names for itself
#define __logf logf
#define __powf powf
#define __sinf sinf
#define __cosf cosf

template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

#define SHIM_LOAD(name)   \
  template <class T>      \
  T name(const T* from) { \
    return *from;         \
  }
SHIM_LOAD(__ldg)
SHIM_LOAD(__ldcg)
SHIM_LOAD(__ldca)
SHIM_LOAD(__ldcs)
#undef SHIM_LOAD
#define SHIM_STORE(name)                  \
  template <class T>                      \
  void name(T* to, shim::same<T> value) { \
    *to = value;                          \
  }
SHIM_STORE(__stcg)
SHIM_STORE(__stcs)
SHIM_STORE(__stwb)
#undef SHIM_STORE
