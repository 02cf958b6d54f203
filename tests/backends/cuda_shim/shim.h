// Compiles the kernels of csrc/cuda for the CPU: g++ -x c++ -include tests/backends/cuda_shim/shim.h. See
// csrc/cuda/device.h for what a kernel may use, schedule.h for how threads run, helpers.h for what stands in for PTX.
#pragma once

#define NCAFAST_CUDA_SHIM 1

#include "helpers.h"
