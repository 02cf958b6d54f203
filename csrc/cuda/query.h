// What the binding does with the CUDA runtime, without its headers.
#pragma once

#include <string>

namespace ncafast::cuda {

// Around the launches of a call. Makes the device current, since this copy of the runtime need not know which one
// torch's chose; the caller has chosen the same, so nothing is put back.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
};

// Why this device runs none of the kernels (an old driver, a build for other GPUs, no memory), or nothing. Makes the
// device current, as OnDevice does.
std::string refuse_device(int device);

}  // namespace ncafast::cuda
