// A fake device of kind Cuda with host memory and the CPU's kernels: it shows how host code treats tensors that it cannot access.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/device.h"

namespace mblm::testing {

inline constexpr Device fake_device{DeviceKind::Cuda, 0};

// Calls of the runtime since the last reset.
struct RuntimeCalls {
  std::int64_t allocations = 0, from_host = 0, synchronizations = 0;
  std::vector<std::size_t> to_host;        // bytes of each synchronous copy
  std::vector<std::size_t> to_host_async;  // bytes of each asynchronous copy
};

// Adds the runtime and fills every kernel slot that the CPU fills for Cuda too. Call once in a process.
void add_fake_device();
RuntimeCalls& runtime_calls();

}  // namespace mblm::testing
