// How many blocks a launch has, and kernels by precision.
#pragma once

#include <type_traits>

#include "../kinds.h"
#include "device.h"
#include "half.cuh"
#include "rollout.h"

namespace ncafast::cuda {

inline unsigned blocks_of(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

// Calls work with the precision as a constant.
template <class Work>
void with_precision(Precision precision, Work work) {
  switch (precision) {
    case Precision::ieee:
      return work(std::integral_constant<Precision, Precision::ieee>{});
    case Precision::tf32:
      return work(std::integral_constant<Precision, Precision::tf32>{});
    case Precision::tf32x3:
      return work(std::integral_constant<Precision, Precision::tf32x3>{});
    case Precision::bf16:
      return work(std::integral_constant<Precision, Precision::bf16>{});
  }
  unreachable();
}

// Calls work with a number of the states' type.
template <class Work>
void with_state(StateType state, Work work) {
  switch (state) {
    case StateType::float32:
      return work(float{});
    case StateType::float16:
      return work(Float16{});
    case StateType::bfloat16:
      return work(Bfloat16{});
  }
  unreachable();
}

// Blocks that go from tile to tile.
template <class... P>
unsigned resident(void (*kernel)(P...), const Place& place, const BlockSize& block, int64_t tiles) {
  const int64_t most = int64_t{place.multiprocessors} * blocks_per_multiprocessor(kernel, block.threads, block.bytes);
  return static_cast<unsigned>(tiles < most ? tiles : most);
}

}  // namespace ncafast::cuda
