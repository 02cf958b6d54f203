// Which instruction set's kernels run: the best that this processor has, or the one that NCAFAST_CPU_ISA names.
#include "choose.h"

#include <cstdlib>
#include <cstring>

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

bool has_bf16() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

}  // namespace

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> found;
  if (has_avx512() && avx512_kernels()) found.push_back(avx512_kernels());
  if (has_avx2() && avx2_kernels()) found.push_back(avx2_kernels());
  found.push_back(portable_kernels());
  return found;
}

const Kernels& chosen_kernels() {
  const std::vector<const Kernels*> usable = usable_kernels();
  if (const char* wanted = std::getenv("NCAFAST_CPU_ISA"))
    for (const Kernels* kernels : usable)
      if (std::strcmp(wanted, kernels->name) == 0) return *kernels;
  return *usable.front();
}

const char* refuse_bf16() {
  if (!bf16_kernels())
    return "ncafast was built for other processors than x86-64, or by a compiler without AVX512_BF16";
  if (!has_bf16()) return "this processor has no dot products of bfloat16 (AVX512_BF16)";
  if (&chosen_kernels() != avx512_kernels()) return "NCAFAST_CPU_ISA names an instruction set without bfloat16";
  return nullptr;
}

const char* instruction_set() { return chosen_kernels().name; }

}  // namespace ncafast::cpu
