// Large blocks of memory that outlive the call that used them: the kernel clears every page that it hands out, which
// costs as much as the work on it where a call has few steps. (AMD EPYC 25-17, one thread, 2026-11-29: a training step
// of 16 x 320^2 cells of 16 channels in 340 ns a cell and step with blocks kept, 486 without.)
#pragma once

#include <cstdint>

namespace ncafast::cpu {

constexpr int64_t least_kept = int64_t{1} << 20;  // bytes; smaller blocks come from the C++ library

void* take(int64_t bytes);               // aligned to 64 bytes at least; throws std::bad_alloc
void give(void* memory, int64_t bytes);  // as many as were asked for

// The most that is kept while nothing uses it, at first an eighth of the machine's memory. Returns what it was before.
int64_t keep(int64_t bytes);
int64_t kept();     // bytes that are kept now; under pressure the system takes them without being asked
int64_t release();  // gives back all that is kept; returns how many bytes

}  // namespace ncafast::cpu
