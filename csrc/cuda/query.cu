// The device that a call runs on.
#include "device.h"
#include "query.h"

namespace ncafast::cuda {

OnDevice::OnDevice(int device) { set_device(device); }

OnDevice::~OnDevice() { end_of_launches(); }

}  // namespace ncafast::cuda
