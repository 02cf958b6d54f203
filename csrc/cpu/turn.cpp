// A sample is cut into blocks of cells, each block turned by itself, and then its channels, which are now chunks of
// memory, are carried to their places along the cycles of that permutation. Cells left over make room at the end.
#include "turn.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "memory.h"
#include "transpose.h"

namespace ncafast::cpu {
namespace {

constexpr int64_t most_cells = 2048;  // of a block: chunks of 8 KB

// Cells of a block: what divides the sample's cells where that is not much smaller, so that none are left over.
int64_t block_of(int64_t cells) {
  const int64_t most = std::min(cells, most_cells);
  for (int64_t block = most; 4 * block >= most; --block)
    if (cells % block == 0) return block;
  return most;
}

// One place of each cycle of the chunks [blocks, channels] on their way to [channels, blocks].
std::vector<int64_t> cycles_of(int64_t blocks, int64_t channels) {
  std::vector<int64_t> starts;
  std::vector<bool> seen(blocks * channels);
  for (int64_t start = 0; start < blocks * channels; ++start) {
    if (seen[start]) continue;
    starts.push_back(start);
    for (int64_t at = start; !seen[at]; at = at % channels * blocks + at / channels) seen[at] = true;
  }
  return starts;
}

// Moves the chunks of a cycle: each place gets what belongs there, the last one what the first one held.
void carry(float* sample, int64_t start, int64_t blocks, int64_t channels, int64_t chunk, float* spare) {
  std::memcpy(spare, sample + start * chunk, 4 * chunk);
  for (int64_t to = start;;) {
    const int64_t from = to % blocks * channels + to / blocks;
    std::memcpy(sample + to * chunk, from == start ? spare : sample + from * chunk, 4 * chunk);
    if (from == start) return;
    to = from;
  }
}

}  // namespace

void turn_channels_first(float* states, int64_t batch, int64_t cells, int64_t channels, int threads) {
  const int64_t chunk = block_of(cells), blocks = cells / chunk, left = cells % chunk, size = chunk * channels;
  const std::vector<int64_t> starts = cycles_of(blocks, channels);
  const int64_t cycles = static_cast<int64_t>(starts.size());
  Floats rest(left * channels, false);
#pragma omp parallel num_threads(threads)
  {
    Floats spare(size, false);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < batch * blocks; ++i) {
      float* block = states + i / blocks * cells * channels + i % blocks * size;
      std::memcpy(spare.data(), block, 4 * size);
      transpose(spare.data(), channels, block, chunk, chunk, channels);
    }
    for (int64_t b = 0; b < batch && chunk < cells; ++b) {
      float* sample = states + b * cells * channels;
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < cycles; ++i) carry(sample, starts[i], blocks, channels, chunk, spare.data());
      if (!left) continue;
#pragma omp single
      {
        const int64_t whole = cells - left;
        transpose(sample + whole * channels, channels, rest.data(), left, left, channels);
        for (int64_t c = channels - 1; c >= 0; --c) {
          std::memmove(sample + c * cells, sample + c * whole, 4 * whole);
          std::memcpy(sample + c * cells + whole, rest.data() + c * left, 4 * left);
        }
      }
    }
  }
}

}  // namespace ncafast::cpu
