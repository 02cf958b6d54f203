// Environment variables that change how kernels are launched, to find the one that is at fault. Read once per process.
#pragma once

#include <cstdlib>
#include <cstring>

namespace ncafast::cuda {

inline bool is_one(const char* variable) {
  const char* const value = std::getenv(variable);
  return value && std::strcmp(value, "1") == 0;
}

// NCAFAST_CUDA_SYNC=1: wait for every kernel after its launch, so that an error names the kernel that made it.
inline bool synchronous_launches() {
  static const bool on = is_one("NCAFAST_CUDA_SYNC");
  return on;
}

// NCAFAST_CUDA_PLAIN_LAUNCH=1: no kernel starts before the one before it has ended.
inline bool plain_launches() {
  static const bool on = is_one("NCAFAST_CUDA_PLAIN_LAUNCH");
  return on;
}

}  // namespace ncafast::cuda
