// The device that a call runs on.
#include <exception>

#include "device.h"
#include "query.h"

namespace ncafast::cuda {

__global__ void probe() {}  // compiled for the same GPUs as all others

OnDevice::OnDevice(int device) { set_device(device); }

OnDevice::~OnDevice() { end_of_launches(); }

std::string refuse_device(int device) {
  std::string reason = driver_refusal();
  if (!reason.empty()) return reason;
  try {
    set_device(device);
    return device_refusal(probe);
  } catch (const std::exception& error) {
    return std::string("the GPU cannot be used: ") + error.what();
  }
}

}  // namespace ncafast::cuda
