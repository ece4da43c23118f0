// Copies and fills.
#include <cstring>

#include "tests/cuda/emulator/access.h"
#include "tests/cuda/emulator/stream.h"

using namespace emulator;

namespace {

// Also from device memory without contents, which reads as zeros.
void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (settings().dry)
    std::memset(to, 0, bytes);
  else
    std::memmove(to, from, bytes);
}

// Host memory that is not pinned: its bytes are taken during the call, and it is written before the call returns.
cudaError_t copy_pageable(void* to, const void* from, std::size_t bytes, bool to_device, Work work, cudaStream_t stream) {
  if (is_capturing(stream)) {
    spoil(*stream_of(stream)->capture);
    return set_error(cudaErrorStreamCaptureUnsupported);
  }
  if (!settings().pageable_copies) throw Error("an asynchronous copy from or to host memory that is not pinned");
  ++counts().pageable_copies;
  if (to_device) {
    const char* c = static_cast<const char*>(from);
    work.run = [=, staged = std::vector<char>(c, c + bytes)] {
      std::memcpy(to, staged.data(), bytes);
      note_host_write(to, bytes);
    };
    add_work(stream, std::move(work));
    return cudaSuccess;
  }
  work.run = [=] { copy_bytes(to, from, bytes); };
  add_work(stream, std::move(work));
  return cudaStreamSynchronize(stream);
}

}  // namespace

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const std::lock_guard lock(emulator_mutex());
  if (bytes == 0) return cudaSuccess;
  const bool to_device = device_of(to) >= 0, from_device = device_of(from) >= 0;
  const cudaMemcpyKind actual = to_device     ? from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
                                : from_device ? cudaMemcpyDeviceToHost
                                              : cudaMemcpyHostToHost;
  if ((kind != cudaMemcpyDefault && kind != actual) || actual == cudaMemcpyHostToHost) return set_error(cudaErrorInvalidValue);
  if ((to_device && !in_live_memory(to, bytes)) || (from_device && !in_live_memory(from, bytes))) return set_error(cudaErrorInvalidValue);
  Work work{{}, &Counts::copies_within, &Counts::bytes_within, bytes};
  if (actual == cudaMemcpyHostToDevice) work = {{}, &Counts::copies_to_device, &Counts::bytes_to_device, bytes};
  if (actual == cudaMemcpyDeviceToHost) work = {{}, &Counts::copies_to_host, &Counts::bytes_to_host, bytes};
  if ((!to_device && !is_pinned(to, bytes)) || (!from_device && !is_pinned(from, bytes)))
    return copy_pageable(to, from, bytes, to_device, std::move(work), stream);
  work.run = [=] {
    if (to_device && from_device)
      note_device_copy(to, from, bytes);
    else if (to_device)
      note_host_write(to, bytes);
    copy_bytes(to, from, bytes);
  };
  add_work(stream, std::move(work));
  return cudaSuccess;
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, std::size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t status = refuse_during_capture(); status != cudaSuccess) return status;
  if (const cudaError_t status = cudaMemcpyAsync(to, from, bytes, kind, nullptr); status != cudaSuccess) return status;
  return cudaDeviceSynchronize();
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(emulator_mutex());
  if (bytes == 0) return cudaSuccess;
  if (!in_live_memory(to, bytes)) return set_error(cudaErrorInvalidValue);
  add_work(stream, {[=] {
                      std::memset(to, value, bytes);
                      note_host_write(to, bytes);
                    },
                    &Counts::fills, &Counts::bytes_filled, bytes});
  return cudaSuccess;
}
