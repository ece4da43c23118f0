// Where tensors live, and what a backend must provide for a kind of device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace mblm {

enum class DeviceKind { Cpu, Cuda };
inline constexpr int device_kinds = 2;
const char* name_of(DeviceKind kind);  // "cpu", "cuda"

struct Device {
  DeviceKind kind = DeviceKind::Cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Device& device);  // cpu, cuda:0

struct DeviceInfo {
  Device device;
  std::string description;     // model, capability
  std::size_t memory_bytes = 0;
};

// A device's queues of work. Kernels and the plain copies of a Runtime go to the compute stream.
enum class Stream { Compute, Copy };
// A point in a stream's work; 0 stands for a point that has passed.
using Event = std::uint64_t;

// What a backend does for the engine. One object per kind of device, added once when the backend is loaded.
// Pointers are addresses on the device unless said otherwise; copies are ordered with the device's kernels.
// The functions below to_host have defaults for a device that completes each call before it returns, such as the CPU.
class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual std::vector<DeviceInfo> devices() = 0;
  virtual void* allocate(int index, std::size_t bytes) = 0;  // null when there is no such memory
  virtual void release(int index, void* data) noexcept = 0;
  virtual void fill_zero(int index, void* data, std::size_t bytes) = 0;
  virtual void copy(int index, void* to, const void* from, std::size_t bytes) = 0;  // within a device
  virtual void from_host(int index, void* to, const void* from, std::size_t bytes) = 0;
  virtual void to_host(int index, void* to, const void* from, std::size_t bytes) = 0;  // done when it returns

  // Page-locked host memory, for copies that run beside the host. Null when there is no such memory.
  virtual void* allocate_pinned(std::size_t bytes);
  virtual void release_pinned(void* data) noexcept;
  // Copies between pinned memory and the device, in the order of their stream. The host must leave the memory alone until
  // an event recorded afterwards has passed.
  virtual void from_host_async(int index, Stream stream, void* to, const void* pinned, std::size_t bytes);
  virtual void to_host_async(int index, Stream stream, void* pinned, const void* from, std::size_t bytes);
  // The point behind all work given to the stream so far.
  virtual Event record_event(int index, Stream stream);
  // The stream, not the host, waits until the event has passed.
  virtual void wait_event(int index, Stream stream, Event event);
  // The host waits until the event, or all work of the device, has passed.
  virtual void synchronize_event(int index, Event event);
  virtual void synchronize(int index);
};

// The runtime of a kind of device. Throws DeviceError with the reason when it is not there.
Runtime& runtime_of(DeviceKind kind);
bool has_runtime(DeviceKind kind);
void add_runtime(DeviceKind kind, Runtime* runtime);  // called by a backend while it is loaded; null takes it away

// All devices of the loaded backends, the CPU first.
std::vector<DeviceInfo> available_devices();

// Opens the backend modules that lie beside this library (`libmblm_cuda.so`); safe to call again and from any thread.
// Returns one line per module that is there but could not be opened, with the reason, empty when all is well.
std::vector<std::string> load_backends();

}  // namespace mblm
