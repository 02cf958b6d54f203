// The random source: Philox4x32-10, the same words as ncafast/philox.py on every device.
//
// Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define NCAFAST_HOST_DEVICE __host__ __device__
#else
#define NCAFAST_HOST_DEVICE
#endif

namespace ncafast {

// Four 32-bit words: a counter before the rounds, random numbers after them.
struct Block {
  uint32_t word[4];
};

enum class Stream : uint32_t { fire = 0, noise = 1, dropout = 2 };

NCAFAST_HOST_DEVICE inline Block philox4x32(Block counter, uint64_t seed) {
  uint32_t c0 = counter.word[0], c1 = counter.word[1];
  uint32_t c2 = counter.word[2], c3 = counter.word[3];
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The four numbers of elements [4 * index, 4 * index + 4) of one sample at one absolute step. An
// index beyond 32 bits goes on above the stream in the fourth word, so no two draws coincide.
NCAFAST_HOST_DEVICE inline Block draw(uint64_t seed, Stream stream, uint32_t sample, uint32_t step, uint64_t index) {
  const uint32_t low = static_cast<uint32_t>(index);
  const uint32_t high = static_cast<uint32_t>(index >> 32);
  return philox4x32({{low, sample, step, (high << 8) | static_cast<uint32_t>(stream)}}, seed);
}

}  // namespace ncafast
