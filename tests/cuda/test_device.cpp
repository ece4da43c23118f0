#include "tests/cuda/test_device.h"

namespace mblm::testing {
namespace {

bool emulated_backend_is_linked() {
  static const bool linked = has_runtime(DeviceKind::Cuda);  // asked before the module is loaded
  return linked;
}

}  // namespace

Device test_device() {
  if (!emulated_backend_is_linked()) load_backends();
  runtime_of(DeviceKind::Cuda);
  return {DeviceKind::Cuda, 0};
}

bool device_is_emulated() { return emulated_backend_is_linked(); }

}  // namespace mblm::testing
