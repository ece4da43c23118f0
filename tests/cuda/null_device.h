// A device of kind Cuda without memory, whose kernels do nothing: host code runs a training step of any size on it, and a test records the
// calls of the slots that it fills.
#pragma once

#include "engine/device.h"

namespace mblm::testing {

inline constexpr Device null_device{DeviceKind::Cuda, 0};

// Adds the runtime, and fills for Cuda every kernel slot that the CPU fills and the test has not filled. Call once in a process.
void add_null_device();

}  // namespace mblm::testing
