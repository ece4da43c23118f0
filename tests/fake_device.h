// A device of the kind Cuda in host memory, whose kernels are the CPU's: shows what host code does with tensors that it cannot reach.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/device.h"

namespace mblm::testing {

inline constexpr Device fake_device{DeviceKind::Cuda, 0};

// Calls of the runtime since the last reset.
struct RuntimeCalls {
  std::int64_t allocations = 0, from_host = 0, synchronizations = 0;
  std::vector<std::size_t> to_host;        // bytes of each copy that the host waits for
  std::vector<std::size_t> to_host_async;  // bytes of each that it does not wait for
};

// Adds the device's runtime and fills the Cuda place of every kernel slot that the CPU fills. Call once in a process.
void add_fake_device();
RuntimeCalls& runtime_calls();

}  // namespace mblm::testing
