#include "cuda/device_state.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "engine/error.h"

namespace mblm::cuda {
namespace {

constexpr std::size_t most_devices = 64;

thread_local int current = -1;  // -1: this thread has not selected a device
thread_local cudaStream_t capture_stream = nullptr;

cudaStream_t new_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

cudaEvent_t new_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

// The state of a device that is current.
DeviceState& state_of(int index) {
  static std::array<std::atomic<DeviceState*>, most_devices> states{};
  static std::mutex mutex;
  std::atomic<DeviceState*>& place = states[static_cast<std::size_t>(index)];
  if (DeviceState* state = place.load(std::memory_order_acquire)) return *state;
  const std::lock_guard lock(mutex);
  if (DeviceState* state = place.load(std::memory_order_acquire)) return *state;
  auto* state = new DeviceState;
  state->index = index;
  state->compute = new_stream();
  state->copy = new_stream();
  place.store(state, std::memory_order_release);
  return *state;
}

}  // namespace

DeviceState& enter_device(int index) {
  if (index != current) {
    require<DeviceError>(index >= 0 && index < static_cast<int>(most_devices), "cuda: expected a device below ", most_devices, ", got ", index);
    check(cudaSetDevice(index));
    current = index;
  }
  return state_of(index);
}

int current_device() { return std::max(0, current); }

cudaStream_t compute_stream() { return capture_stream != nullptr ? capture_stream : enter_device(current_device()).compute; }

void set_capture_stream(cudaStream_t stream) { capture_stream = stream; }
bool is_capturing() { return capture_stream != nullptr; }

void request_shared(const void* kernel, std::size_t bytes, RequestedShared& requested) {
  static std::mutex mutex;
  std::atomic<std::size_t>& largest = requested[static_cast<std::size_t>(current_device())];
  if (largest.load() >= bytes) return;
  const std::lock_guard lock(mutex);
  if (largest.load() >= bytes) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  largest.store(bytes);
}

void synchronize(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());
    check(cudaEventSynchronize(event));
  } else {
    check(status);
  }
}

Event EventRing::record(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  const Event number = last_ + 1;
  const std::size_t slot = number % length;
  if (events_[slot] == nullptr) events_[slot] = new_event();
  else cuda::synchronize(events_[slot]);
  check(cudaEventRecord(events_[slot], stream));
  numbers_[slot] = number;
  return last_ = number;
}

cudaEvent_t EventRing::find(Event event) {
  const std::lock_guard lock(mutex_);
  return event != 0 && numbers_[event % length] == event ? events_[event % length] : nullptr;
}

void EventRing::wait(cudaStream_t stream, Event event) {
  if (cudaEvent_t found = find(event)) check(cudaStreamWaitEvent(stream, found, 0));
}

void EventRing::synchronize(Event event) {
  if (cudaEvent_t found = find(event)) cuda::synchronize(found);
}

void Staging::copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  if (pinned_ == nullptr) {
    void* memory = nullptr;
    require<MemoryError>(cudaHostAlloc(&memory, buffers * buffer_bytes, 0) == cudaSuccess, "out of pinned memory: requested ", buffers * buffer_bytes,
                         " bytes to copy tensors to a GPU");
    pinned_ = static_cast<std::byte*>(memory);
  }
  for (std::size_t done = 0; done < bytes; done += buffer_bytes) {
    const std::size_t piece = std::min(buffer_bytes, bytes - done), buffer = next_++ % buffers;
    if (events_[buffer] == nullptr) events_[buffer] = new_event();
    else cuda::synchronize(events_[buffer]);
    std::byte* pinned = pinned_ + buffer * buffer_bytes;
    std::memcpy(pinned, static_cast<const std::byte*>(from) + done, piece);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + done, pinned, piece, cudaMemcpyHostToDevice, stream));
    check(cudaEventRecord(events_[buffer], stream));
  }
}

}  // namespace mblm::cuda
