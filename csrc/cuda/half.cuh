// Elements of states in memory: float32, or half precision, which kernels widen as they load it and round as they store
// it, to the nearest.
#pragma once

#include "device.h"

namespace ncafast::cuda {

struct Float16 {
  uint16_t bits;
};

struct Bfloat16 {
  uint16_t bits;
};

NCAFAST_DEVICE float widened(float value) { return value; }
NCAFAST_DEVICE float widened(Float16 value) { return from_f16(value.bits); }
NCAFAST_DEVICE float widened(Bfloat16 value) { return from_bf16(value.bits); }

template <class T>
NCAFAST_DEVICE T narrowed(float value);
template <>
NCAFAST_DEVICE float narrowed<float>(float value) {
  return value;
}
template <>
NCAFAST_DEVICE Float16 narrowed<Float16>(float value) {
  return {to_f16(value)};
}
template <>
NCAFAST_DEVICE Bfloat16 narrowed<Bfloat16>(float value) {
  return {to_bf16(value)};
}

// A number of an array; see stored.cuh too.
template <class T>
NCAFAST_DEVICE float get(const T* from, int64_t at) {
  return widened(from[at]);
}
template <class T>
NCAFAST_DEVICE void put(T* to, int64_t at, float value) {
  to[at] = narrowed<T>(value);
}

// Four neighbours at a multiple of their size, in one access.
template <class T>
struct alignas(4 * sizeof(T)) Four {
  T of[4];
};

template <class T>
NCAFAST_DEVICE const Four<T>& four_at(const T* from) {
  return *reinterpret_cast<const Four<T>*>(from);
}

template <class T>
NCAFAST_DEVICE float4 widened(const Four<T>& four) {
  return make_float4(widened(four.of[0]), widened(four.of[1]), widened(four.of[2]), widened(four.of[3]));
}

template <class T>
NCAFAST_DEVICE void store_four(T* to, const float4& value) {
  *reinterpret_cast<Four<T>*>(to) = {
      {narrowed<T>(value.x), narrowed<T>(value.y), narrowed<T>(value.z), narrowed<T>(value.w)}};
}

}  // namespace ncafast::cuda
