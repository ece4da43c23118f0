// The streams, events and staging memory of one CUDA device. Host code only.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <mutex>

#include "cuda/launch.h"
#include "engine/device.h"

namespace mblm::cuda {

// Event numbers backed by a ring of CUDA events. A number whose CUDA event was reused counts as passed: the ring waits for an event
// before it reuses it, which happens only when 1024 later events were recorded.
class EventRing {
 public:
  Event record(cudaStream_t stream);
  void wait(cudaStream_t stream, Event event);
  void synchronize(Event event);

 private:
  static constexpr std::size_t length = 1024;
  cudaEvent_t find(Event event);  // null: it has passed

  std::mutex mutex_;
  std::array<cudaEvent_t, length> events_{};
  std::array<Event, length> numbers_{};
  Event last_ = 0;
};

// Copies from pageable host memory: the bytes go through a ring of pinned buffers, so that the caller can reuse its memory at once and
// waits only when all buffers are in flight.
class Staging {
 public:
  void copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream);

 private:
  // Small copies, such as a step scalar, need few bytes; large ones, such as loaded weights, run at the speed of the host's copy.
  static constexpr std::size_t buffers = 8, buffer_bytes = std::size_t{1} << 20;

  std::mutex mutex_;
  std::byte* pinned_ = nullptr;
  std::array<cudaEvent_t, buffers> events_{};  // after the last copy from each buffer
  std::size_t next_ = 0;
};

struct DeviceState {
  int index = 0;
  cudaStream_t compute = nullptr, copy = nullptr;
  EventRing events;
  Staging staging;

  cudaStream_t stream(Stream which) const { return which == Stream::Compute ? compute_stream() : copy; }
};

// Makes the device current on this thread and returns its state, which is created on first use and never destroyed.
DeviceState& enter_device(int index);

// The device that this thread submits kernels to; the first one until enter_device is called.
int current_device();

// While a scope exists, compute_stream() of this thread is `stream`.
void set_capture_stream(cudaStream_t stream);  // null: none
bool is_capturing();

// Waits for the event unless it has passed.
void synchronize(cudaEvent_t event);

}  // namespace mblm::cuda
