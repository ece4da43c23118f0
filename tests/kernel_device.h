// The device whose kernels a test of ops runs: the CPU, or in the programs of tests/cuda the CUDA device of tests/cuda/test_device.h.
#pragma once

#include "engine/device.h"

namespace mblm::testing {

Device kernel_device();

}  // namespace mblm::testing
