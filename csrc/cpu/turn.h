// [B, cells, channels] to [B, channels, cells] in the same memory.
#pragma once

#include <cstdint>

namespace ncafast::cpu {

void turn_channels_first(float* states, int64_t batch, int64_t cells, int64_t channels, int threads);

}  // namespace ncafast::cpu
