// The CUDA device of the tests: the emulated one in programs that link the emulated backend, otherwise a real GPU.
#pragma once

#include "engine/device.h"

namespace mblm::testing {

// Loads the module with the real backend unless the emulated one is linked. Throws DeviceError without a device.
Device test_device();
bool device_is_emulated();

}  // namespace mblm::testing
