// What the binding does with the CUDA runtime, without its headers.
#pragma once

namespace ncafast::cuda {

// Around the launches of a call. Makes the device current, since this copy of the runtime need not know which one
// torch's chose; the caller has chosen the same, so nothing is put back.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
};

}  // namespace ncafast::cuda
