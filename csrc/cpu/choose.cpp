// Which instruction set's kernels run: the best that this processor has, or the one that NCAFAST_CPU_ISA names.
#include <cstdlib>
#include <cstring>

#include "job.h"

namespace ncafast::cpu {
namespace {

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#if defined(__x86_64__)
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

}  // namespace

const Kernels& chosen_kernels() {
  const Kernels* avx512 = has_avx512() ? avx512_kernels() : nullptr;
  const Kernels* avx2 = has_avx2() ? avx2_kernels() : nullptr;
  if (const char* wanted = std::getenv("NCAFAST_CPU_ISA")) {
    if (avx512 && std::strcmp(wanted, "avx512") == 0) return *avx512;
    if (avx2 && std::strcmp(wanted, "avx2") == 0) return *avx2;
    if (std::strcmp(wanted, "portable") == 0) return *portable_kernels();
  }
  return avx512 ? *avx512 : avx2 ? *avx2 : *portable_kernels();
}

const char* instruction_set() { return chosen_kernels().name; }

}  // namespace ncafast::cpu
