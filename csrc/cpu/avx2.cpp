// The tile kernels for x86-64 processors with AVX2 and FMA.

#include "job.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define NCAFAST_NAME "avx2"
#define NCAFAST_WIDTH 8
#define NCAFAST_REGISTERS 16

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
namespace ncafast::cpu::avx2 {
#include "kernels.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC reset_options
#endif

const ncafast::cpu::Kernels* ncafast::cpu::avx2_kernels() { return &avx2::kernels; }
#else
const ncafast::cpu::Kernels* ncafast::cpu::avx2_kernels() { return nullptr; }
#endif
