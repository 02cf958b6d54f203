// The instruction sets that there are kernels for on this processor.
#pragma once

#include <vector>

#include "job.h"

namespace ncafast::cpu {

std::vector<const Kernels*> usable_kernels();  // the best first, the portable ones last

}  // namespace ncafast::cpu
