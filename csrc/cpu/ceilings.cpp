// What the processor can do at most, for the benchmark to compare with.
#include <algorithm>
#include <cstring>

#include "choose.h"
#include "memory.h"

namespace ncafast::cpu {

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : usable_kernels()) names.emplace_back(kernels->name);
  return names;
}

int64_t multiply_add(const std::string& set, int threads, int64_t rounds) {
  std::vector<const Kernels*> all = usable_kernels();
  if (!refuse_bf16()) all.push_back(bf16_kernels());
  for (const Kernels* kernels : all) {
    if (set != kernels->name) continue;
    float sum = 0.0f;
    int64_t loops = 0;  // one where there is no OpenMP, whatever `threads` is
#pragma omp parallel num_threads(threads) reduction(+ : sum, loops)
    {
      sum += kernels->multiply_add(rounds);
      ++loops;
    }
    return sum < 0.0f ? 0 : loops * rounds * kernels->multiply_add_operations;  // never below: the loop must run
  }
  return 0;
}

int64_t copy(int threads, int64_t bytes, int64_t rounds) {
  const int64_t count = bytes / 8;  // floats of each of two buffers
  int64_t loops = 0;
#pragma omp parallel num_threads(threads) reduction(+ : loops)
  {
    Floats from(count), to(count);
    for (int64_t i = 0; i < rounds; ++i) {
      std::memcpy(to.data(), from.data(), 4 * count);
      std::swap(from, to);
    }
    ++loops;
  }
  return loops * rounds * 8 * count;
}

}  // namespace ncafast::cpu
