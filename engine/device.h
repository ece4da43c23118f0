// Devices that hold tensors, and the interface that a backend implements for a kind of device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace mblm {

class Collective;

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

struct DeviceMemory {
  std::size_t total_bytes = 0, free_bytes = 0;
};

// The work queues of a device. Kernels and the copies of a Runtime that take no stream go to the compute stream.
enum class Stream { Compute, Copy };
// A point in the work of a stream; 0 is a point that has already passed.
using Event = std::uint64_t;
// A captured sequence of work; 0 is none.
using Graph = std::uint64_t;
// Sends bytes to all workers and returns the bytes of all workers, in order of rank.
using Exchange = std::function<std::vector<std::string>(const std::string& bytes)>;

// The operations that a backend provides. There is one object per kind of device, added when the backend is loaded. All functions are
// thread-safe. Pointers are device addresses unless noted; copies are ordered with the device's kernels.
// The functions below to_host have defaults for a device that completes each call before it returns, such as the CPU.
class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual std::vector<DeviceInfo> devices() = 0;
  virtual void* allocate(int index, std::size_t bytes) = 0;  // null when out of memory
  virtual void release(int index, void* data) noexcept = 0;
  virtual void fill_zero(int index, void* data, std::size_t bytes) = 0;
  virtual void copy(int index, void* to, const void* from, std::size_t bytes) = 0;  // within a device
  // The host memory may be reused when it returns; the copy itself may happen later.
  virtual void from_host(int index, void* to, const void* from, std::size_t bytes) = 0;
  virtual void to_host(int index, void* to, const void* from, std::size_t bytes) = 0;  // complete when it returns

  virtual DeviceMemory memory(int index);
  // Advice for new memory, such as that of weights, which kernels read again and again.
  virtual void expect_repeated_reads(int index, void* data, std::size_t bytes) noexcept;
  // Selects the device on which this thread submits kernels.
  virtual void make_current(int index);
  // Called after each kernel slot. A debugging mode waits here, so that the failing kernel can be named.
  virtual void kernel_submitted(int index);
  // For memory checkers: of the block of `size` bytes at `data`, work submitted from now on may access only the first `accessible`
  // bytes, which are uninitialized.
  virtual void mark_block(int index, void* data, std::size_t accessible, std::size_t size) noexcept;

  // Page-locked host memory, for asynchronous copies. Null when out of memory.
  virtual void* allocate_pinned(std::size_t bytes);
  virtual void release_pinned(void* data) noexcept;
  // Copies between pinned memory and the device, in the order of their stream. The host must not touch the memory until an
  // event recorded after the copy has passed.
  virtual void from_host_async(int index, Stream stream, void* to, const void* pinned, std::size_t bytes);
  virtual void to_host_async(int index, Stream stream, void* pinned, const void* from, std::size_t bytes);
  // Returns the point after all work submitted to the stream so far.
  virtual Event record_event(int index, Stream stream);
  // Makes the stream, not the host, wait for the event.
  virtual void wait_event(int index, Stream stream, Event event);
  // Makes the host wait for the event, or for all work of the device.
  virtual void synchronize_event(int index, Event event);
  virtual void synchronize(int index);

  // Between begin_capture and end_capture, the work that this thread submits to the compute stream is recorded instead of run. Other
  // threads are not affected. Values cannot be read or passed from the host meanwhile: to_host, from_host and the functions with
  // events throw DeviceError. Throws DeviceError where capturing is not supported (engine/device_graph.h).
  virtual bool can_capture() const { return false; }
  virtual void begin_capture(int index);
  virtual Graph end_capture(int index);
  virtual void abandon_capture(int index) noexcept;
  // Submits the work of a graph to the compute stream.
  virtual void launch_graph(int index, Graph graph);
  virtual void release_graph(int index, Graph graph) noexcept;

  // A collective of the backend for tensors on its devices. All workers call it together, each with its own device, and all get an
  // object or all get null: then the caller stages the tensors through host memory. `on_note` receives the reason.
  virtual std::unique_ptr<Collective> open_collective(int index, int rank, int size, const Exchange& exchange,
                                                      const std::function<void(const std::string&)>& on_note);

  // Whether the device has instructions for bfloat16 products, which are faster than those of float32.
  virtual bool multiplies_bfloat16(int index);
};

// The runtime of a kind of device. Throws DeviceError when no such backend is loaded.
Runtime& runtime_of(DeviceKind kind);
bool has_runtime(DeviceKind kind);
void add_runtime(DeviceKind kind, Runtime* runtime);  // called by a backend as it is loaded; null removes it

// Sets what Runtime::multiplies_bfloat16 returns for the CPU. Called by the CPU's kernels; returns true.
bool set_cpu_multiplies_bfloat16(bool (*function)());

// All devices of the loaded backends, the CPU first.
std::vector<DeviceInfo> available_devices();

// Opens the backend modules in the folder of this library (`libmblm_cuda.so`); safe to call again and from any thread.
// Returns one line, with the reason, for each module that exists but could not be opened or finds no device. A module states why it
// added no runtime with `extern "C" const char* mblm_backend_problem()`.
std::vector<std::string> load_backends();

}  // namespace mblm
