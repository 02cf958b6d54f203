// The tile kernels for any processor: four floats at a time, which is SSE2 on x86-64 and NEON on arm64.

#include "job.h"

#define NCAFAST_NAME "portable"
#define NCAFAST_WIDTH 4
#if defined(__aarch64__)
#define NCAFAST_REGISTERS 32
#else
#define NCAFAST_REGISTERS 16
#endif

namespace ncafast::cpu {
namespace portable {
#include "kernels.h"
}
const Kernels* portable_kernels() { return &portable::kernels; }
}  // namespace ncafast::cpu
