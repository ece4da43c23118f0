#include "train/input_staging.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::size_t alignment = 256;  // bytes, of each tensor in a slot

std::size_t padded(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// The defined tensors of an input, in a fixed order.
std::vector<Tensor*> tensors_of(ModelInput& input) {
  std::vector<Tensor*> all{&input.ids};
  for (Tensor& mask : input.token_masks) all.push_back(&mask);
  if (input.targets.defined()) all.push_back(&input.targets);
  if (input.loss_mask.defined()) all.push_back(&input.loss_mask);
  return all;
}

}  // namespace

InputStaging::~InputStaging() {
  Runtime& runtime = runtime_of(device_.kind);
  for (Slot& slot : slots_) {
    try {
      runtime.synchronize_event(device_.index, slot.copied);
    } catch (const Error&) {  // reported by the next call that uses the device
    }
    runtime.release_pinned(slot.pinned);
  }
}

// The new device memory may still be in use by earlier work of the compute stream, so the copy stream waits for that.
void InputStaging::reserve(Slot& slot, std::size_t bytes) {
  if (slot.device != nullptr && slot.device->bytes() >= bytes) return;
  Runtime& runtime = runtime_of(device_.kind);
  if (slot.pinned != nullptr) runtime.release_pinned(slot.pinned);
  slot.pinned = static_cast<std::byte*>(runtime.allocate_pinned(bytes));
  require<MemoryError>(slot.pinned != nullptr, "out of pinned memory for ", device_, ": requested ", bytes, " bytes for the input of a step");
  slot.device = std::make_shared<Storage>(bytes, device_);
  slot.used = runtime.record_event(device_.index, Stream::Compute);
}

ModelInput InputStaging::empty_like(const ModelInput& input) const {
  ModelInput there = input;
  for (Tensor* x : tensors_of(there)) *x = empty(x->shape(), x->dtype(), device_);
  return there;
}

ModelInput InputStaging::to_device(const ModelInput& input) {
  ModelInput there = empty_like(input);
  to_device(input, there);
  return there;
}

void InputStaging::to_device(const ModelInput& input, ModelInput& fixed) {
  ModelInput here = input;
  const std::vector<Tensor*> from = tensors_of(here), to = tensors_of(fixed);
  require<ShapeError>(from.size() == to.size(), "train: expected an input with ", to.size(), " tensors, got ", from.size());
  std::size_t bytes = alignment;
  for (const Tensor* x : from) bytes += padded(x->bytes());

  Runtime& runtime = runtime_of(device_.kind);
  Slot& slot = slots_[next_++ % slots_.size()];
  runtime.synchronize_event(device_.index, slot.copied);
  reserve(slot, bytes);
  std::size_t end = 0;
  for (const Tensor* x : from) {
    if (x->numel() > 0) std::memcpy(slot.pinned + end, x->host_bytes().data(), x->bytes());
    end += padded(x->bytes());
  }
  runtime.wait_event(device_.index, Stream::Copy, slot.used);
  runtime.from_host_async(device_.index, Stream::Copy, slot.device->data(), slot.pinned, end);
  slot.copied = runtime.record_event(device_.index, Stream::Copy);
  runtime.wait_event(device_.index, Stream::Compute, slot.copied);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    copy_into(*to[i], Tensor(slot.device, begin, from[i]->shape(), from[i]->dtype()));
    begin += padded(from[i]->bytes());
  }
  slot.used = runtime.record_event(device_.index, Stream::Compute);
}

}  // namespace mblm
