#include "engine/async_copy.h"

#include "engine/kernel_data.h"

namespace mblm {

AsyncCopy::AsyncCopy(Device device, std::size_t bytes) : device_(device), bytes_(bytes), pinned_(runtime_of(device.kind).allocate_pinned(bytes)) {
  require<MemoryError>(pinned_ != nullptr, "out of pinned memory for ", device, ": requested ", bytes, " bytes");
}

AsyncCopy::~AsyncCopy() {
  if (started_) runtime_of(device_.kind).synchronize_event(device_.index, event_);
  runtime_of(device_.kind).release_pinned(pinned_);
}

void AsyncCopy::start(const Tensor& x) {
  require<ShapeError>(x.bytes() == bytes_, "async copy: expected ", bytes_, " bytes, got ", x.bytes());
  require<DeviceError>(x.device() == device_, "async copy: expected a tensor on ", device_, ", got one on ", x.device());
  Runtime& runtime = runtime_of(device_.kind);
  runtime.to_host_async(device_.index, Stream::Compute, pinned_, raw(x), bytes_);
  event_ = runtime.record_event(device_.index, Stream::Compute);
  started_ = true;
}

const void* AsyncCopy::wait(std::size_t bytes) const {
  require(started_ && bytes == bytes_, "async copy: expected a copy of ", bytes, " bytes, ", started_ ? "its size differs" : "no copy was started");
  runtime_of(device_.kind).synchronize_event(device_.index, event_);
  return pinned_;
}

}  // namespace mblm
