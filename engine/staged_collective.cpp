#include "engine/staged_collective.h"

#include <algorithm>
#include <cstdint>

#include "engine/kernel_data.h"

namespace mblm {
namespace {

// Pinned memory, which counts as memory of the CPU.
std::shared_ptr<Storage> pinned_storage(Device device, std::size_t bytes) {
  Runtime& runtime = runtime_of(device.kind);
  void* pinned = runtime.allocate_pinned(bytes);
  require<MemoryError>(pinned != nullptr, "out of pinned memory for ", device, ": requested ", bytes, " bytes");
  return std::make_shared<Storage>(pinned, bytes, std::shared_ptr<const void>(pinned, [&runtime](void* data) { runtime.release_pinned(data); }));
}

}  // namespace

void StagedCollective::sum(Tensor& x) {
  in_pieces(x, [this](Tensor& piece) { host_.sum(piece); });
}

void StagedCollective::broadcast(Tensor& x) {
  in_pieces(x, [this](Tensor& piece) { host_.broadcast(piece); });
}

// Replaces x by the result of `exchange`, piece by piece.
void StagedCollective::in_pieces(Tensor& x, const std::function<void(Tensor& piece)>& exchange) {
  if (x.device().kind == DeviceKind::Cpu) return exchange(x);
  if (x.numel() == 0) return;
  const Device device = x.device();
  Runtime& runtime = runtime_of(device.kind);
  const std::size_t element = size_of(x.dtype()), length = static_cast<std::size_t>(x.numel());
  const std::size_t count = std::clamp<std::size_t>(piece_bytes_ / element, 1, length);  // elements of a piece
  for (Buffer& buffer : buffers_)
    if (buffer.storage == nullptr || buffer.storage->bytes() < count * element) buffer.storage = pinned_storage(device, count * element);
  const auto address = [&](std::size_t begin) { return static_cast<std::byte*>(raw(x)) + begin * element; };
  const auto bytes = [&](std::size_t begin) { return std::min(count, length - begin) * element; };
  const auto read = [&](std::size_t begin, Buffer& buffer) {
    if (begin >= length) return;
    runtime.to_host_async(device.index, Stream::Compute, buffer.storage->data(), address(begin), bytes(begin));
    buffer.copied = runtime.record_event(device.index, Stream::Compute);
  };
  read(0, buffers_[0]);
  std::size_t at = 0;
  for (std::size_t begin = 0; begin < length; begin += count, at ^= 1) {
    Buffer& buffer = buffers_[at];
    runtime.synchronize_event(device.index, buffer.copied);
    read(begin + count, buffers_[at ^ 1]);
    Tensor piece(buffer.storage, 0, Shape{static_cast<std::int64_t>(bytes(begin) / element)}, x.dtype());
    exchange(piece);
    runtime.from_host_async(device.index, Stream::Compute, address(begin), buffer.storage->data(), bytes(begin));
    buffer.copied = runtime.record_event(device.index, Stream::Compute);
  }
  for (const Buffer& buffer : buffers_) runtime.synchronize_event(device.index, buffer.copied);
}

}  // namespace mblm
