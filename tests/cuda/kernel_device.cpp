#include "tests/kernel_device.h"

#include "tests/cuda/test_device.h"

namespace mblm::testing {

Device kernel_device() { return test_device(); }

}  // namespace mblm::testing
