// The tile kernels for x86-64 processors with AVX-512 (F, DQ, BW, VL, BF16), with the MLP's products in bfloat16.

#include "job.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define NCAFAST_NAME "bf16"
#define NCAFAST_WIDTH 16
#define NCAFAST_REGISTERS 32
#define NCAFAST_BF16

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma")
#endif
namespace ncafast::cpu::bf16 {
#include "kernels.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC reset_options
#endif

const ncafast::cpu::Kernels* ncafast::cpu::bf16_kernels() { return &bf16::kernels; }
#else
const ncafast::cpu::Kernels* ncafast::cpu::bf16_kernels() { return nullptr; }
#endif
