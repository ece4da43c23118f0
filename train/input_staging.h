// Copies the inputs of micro-steps to a device while it computes.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "engine/device.h"
#include "engine/tensor.h"
#include "mblm/model_input.h"

namespace mblm {

// Two slots alternate, each with pinned host memory and device memory. The copy of an input runs on the copy stream while the device
// still computes the previous micro-step. The host waits only if it is two inputs ahead of the copies.
class InputStaging {
 public:
  explicit InputStaging(Device device) : device_(device) {}
  ~InputStaging();
  InputStaging(const InputStaging&) = delete;
  InputStaging& operator=(const InputStaging&) = delete;

  // New tensors on the device with the input's elements, ready for work on the compute stream. The input is on the CPU.
  ModelInput to_device(const ModelInput& input);
  // The same into the tensors of `fixed`, which have the shapes and dtypes of the input's tensors.
  void to_device(const ModelInput& input, ModelInput& fixed);
  // New tensors on the device of the input's shapes, uninitialized.
  ModelInput empty_like(const ModelInput& input) const;

 private:
  struct Slot {
    std::byte* pinned = nullptr;
    std::shared_ptr<Storage> device;
    Event copied = 0;  // on the copy stream: the pinned memory can be overwritten
    Event used = 0;    // on the compute stream: the device memory can be overwritten
  };
  void reserve(Slot& slot, std::size_t bytes);

  const Device device_;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
};

}  // namespace mblm
