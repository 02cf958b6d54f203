// Sizes of the backward kernels' launches, which `refuse` asks for.
#pragma once

#include "rollout.h"

namespace ncafast::cuda {

// `pushes`: dL/dy stays on the chip, see pushed.cuh.
BlockSize mlp_block(const Rule& rule, const Grid& grid, int multiprocessors, bool pushes);

}  // namespace ncafast::cuda
