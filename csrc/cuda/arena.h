// Cuts memory into arrays: shared memory on the device, where the host counts with the same code, and the workspace.
#pragma once

#include <cstdint>

#include "../philox.h"  // NCAFAST_HOST_DEVICE
#include "device.h"

namespace ncafast::cuda {

class Arena {
 public:
  NCAFAST_HOST_DEVICE explicit Arena(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}

  template <class T>
  NCAFAST_HOST_DEVICE T* take(int64_t count) {
    T* const array = reinterpret_cast<T*>(memory_ + used_);
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T)), room = (bytes + 15) / 16 * 16 + guard_bytes;
    if (memory_) guard(memory_ + used_ + bytes, room - bytes);
    used_ += room;
    return array;
  }

  NCAFAST_HOST_DEVICE int64_t bytes() const { return used_; }

 private:
  unsigned char* memory_;  // null where bytes are only counted
  int64_t used_ = 0;
};

}  // namespace ncafast::cuda
