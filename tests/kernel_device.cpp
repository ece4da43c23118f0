#include "tests/kernel_device.h"

namespace mblm::testing {

Device kernel_device() { return {}; }

}  // namespace mblm::testing
