// Sizes of the backward kernels' launches, which `refuse` asks for.
#pragma once

#include "rollout.h"

namespace ncafast::cuda {

BlockSize mlp_block(const Rule& rule, const Grid& grid, int multiprocessors);

}  // namespace ncafast::cuda
