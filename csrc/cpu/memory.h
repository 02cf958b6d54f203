// Owned, aligned float memory with room past its end, since vectors may read over it.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

#include "pool.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace ncafast::cpu {

// Asks for large pages where memory is written for the first time: a page fault for every 4 KB costs as much as a
// tenth of the work on it. (AMD EPYC 26-2, two threads, 2026-11-26: the result of one step of 16 x 320^2 cells of 16
// channels on large pages, and no state cleared before it is written: 94 and 63 ms.)
inline void use_large_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + static_cast<uintptr_t>(bytes)) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

class Floats {
 public:
  Floats() = default;
  explicit Floats(int64_t count, bool zero = true) : memory_(new_memory(count), Free{count}), count_(count) {
    // The slack is always set, so that what is read there is a number.
    std::memset(memory_.get() + (zero ? 0 : count), 0, 4 * (zero ? count + slack : slack));
  }
  float* data() const { return memory_.get(); }
  int64_t count() const { return count_; }
  void clear() const { std::memset(memory_.get(), 0, 4 * count_); }
  float& operator[](int64_t i) const { return memory_.get()[i]; }

 private:
  static constexpr int64_t slack = 64;
  static float* new_memory(int64_t count) { return static_cast<float*>(take(4 * (count + slack))); }
  struct Free {
    int64_t count;
    void operator()(float* p) const { give(p, 4 * (count + slack)); }
  };
  std::unique_ptr<float, Free> memory_;
  int64_t count_ = 0;
};

}  // namespace ncafast::cpu
