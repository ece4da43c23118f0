// The Runtime of CUDA devices. Host code only.
#include <cuda_runtime.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "cuda/device_state.h"
#include "cuda/launch.h"
#include "cuda/nccl.h"
#include "cuda/sdpa.h"
#include "engine/collective.h"
#include "engine/device.h"

namespace mblm::cuda {
namespace {

// Waits after each kernel slot, so that an error that a GPU reports later is attributed to the slot that caused it.
bool waits_after_kernels() {
  static const bool set = [] {
    const char* text = std::getenv("MBLM_CUDA_BLOCKING");
    return text != nullptr && std::string_view(text) == "1";
  }();
  return set;
}

// Errors of a kernel that ran earlier: illegal address, timeout, assertion, and 714 to 719 (stack, instruction, alignment, address
// space, program counter, launch failure). Every later call returns them again.
bool is_from_earlier_kernel(cudaError_t status) {
  const int code = static_cast<int>(status);
  return code == 700 || code == 702 || code == 710 || (code >= 714 && code <= 719);
}

std::string version_text(int version) { return concat_text(version / 1000, '.', version % 1000 / 10); }

// Why no device can be used; empty if one can.
std::string find_problem() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return count > 0 ? "" : "no GPU is found";
  static_cast<void>(cudaGetLastError());
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  if (driver == 0) return "no NVIDIA driver is found";
  if (driver < runtime) return concat_text("the NVIDIA driver supports CUDA ", version_text(driver), ", this build requires ", version_text(runtime));
  return cudaGetErrorString(status);
}

void require_not_capturing(const char* operation) {
  require<DeviceError>(!is_capturing(), "cuda: ", operation, " is not possible while work is captured as a graph");
}

class CudaRuntime final : public Runtime {
 public:
  std::vector<DeviceInfo> devices() override {
    int count = 0;
    std::vector<DeviceInfo> all;
    if (cudaGetDeviceCount(&count) != cudaSuccess) return all;
    const std::string problem = sdpa_problem(), without = problem.empty() ? "" : concat_text(", long attention without cuDNN (", problem, ")");
    for (int i = 0; i < count; ++i) {
      cudaDeviceProp p;
      check(cudaGetDeviceProperties(&p, i));
      all.push_back({Device{DeviceKind::Cuda, i}, concat_text(p.name, ", capability ", p.major, '.', p.minor, without), p.totalGlobalMem});
    }
    return all;
  }
  DeviceMemory memory(int index) override {
    enter_device(index);
    DeviceMemory memory;
    if (cudaMemGetInfo(&memory.free_bytes, &memory.total_bytes) != cudaSuccess) return {};
    return memory;
  }
  void make_current(int index) override { enter_device(index); }
  void kernel_submitted(int) override {
    if (waits_after_kernels() && !is_capturing()) check(cudaStreamSynchronize(compute_stream()));
  }
#ifdef EMULATED_CUDA
  void mark_block(int index, void* data, std::size_t accessible, std::size_t size) noexcept override {
    enter_device(index);
    emulator::mark_block(compute_stream(), data, accessible, size);
  }
#endif

  void* allocate(int index, std::size_t bytes) override {
    enter_device(index);
    void* data = nullptr;
    if (cudaMalloc(&data, bytes) == cudaSuccess) return data;
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  void release(int, void* data) noexcept override { static_cast<void>(cudaFree(data)); }
  void fill_zero(int index, void* data, std::size_t bytes) override {
    enter_device(index);
    check(cudaMemsetAsync(data, 0, bytes, compute_stream()));
  }
  void copy(int index, void* to, const void* from, std::size_t bytes) override {
    enter_device(index);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, compute_stream()));
  }
  void from_host(int index, void* to, const void* from, std::size_t bytes) override {
    require_not_capturing("a copy from the host");
    DeviceState& device = enter_device(index);
    device.staging.copy(to, from, bytes, device.compute);
  }
  void to_host(int index, void* to, const void* from, std::size_t bytes) override {
    require_not_capturing("a copy to the host");
    DeviceState& device = enter_device(index);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, device.compute));
    check(cudaStreamSynchronize(device.compute));
  }

  void* allocate_pinned(std::size_t bytes) override {
    void* data = nullptr;
    if (cudaHostAlloc(&data, bytes, 0) == cudaSuccess) return data;
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  void release_pinned(void* data) noexcept override { static_cast<void>(cudaFreeHost(data)); }
  void from_host_async(int index, Stream stream, void* to, const void* pinned, std::size_t bytes) override {
    require_not_capturing("a copy from the host");
    check(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, enter_device(index).stream(stream)));
  }
  void to_host_async(int index, Stream stream, void* pinned, const void* from, std::size_t bytes) override {
    require_not_capturing("a copy to the host");
    check(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, enter_device(index).stream(stream)));
  }
  Event record_event(int index, Stream stream) override {
    require_not_capturing("an event");
    DeviceState& device = enter_device(index);
    return device.events.record(device.stream(stream));
  }
  void wait_event(int index, Stream stream, Event event) override {
    require_not_capturing("an event");
    DeviceState& device = enter_device(index);
    device.events.wait(device.stream(stream), event);
  }
  void synchronize_event(int index, Event event) override {
    require_not_capturing("an event");
    enter_device(index).events.synchronize(event);
  }
  void synchronize(int index) override {
    require_not_capturing("waiting for the device");
    DeviceState& device = enter_device(index);
    check(cudaStreamSynchronize(device.copy));
    check(cudaStreamSynchronize(device.compute));
  }

  // Work is captured on a stream of its own, so that work which other threads submit to the compute stream is not. Relaxed: a first
  // launch may load a module, and a pool may call cudaMalloc.
  bool can_capture() const override { return !waits_after_kernels(); }
  void begin_capture(int index) override {
    require_not_capturing("a nested capture");
    enter_device(index);
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (const cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed); status != cudaSuccess) {
      static_cast<void>(cudaStreamDestroy(stream));
      check(status);
    }
    set_capture_stream(stream);
  }
  Graph end_capture(int index) override {
    enter_device(index);
    const cudaGraph_t graph = finish_capture();
    cudaGraphExec_t executable = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    check(status);
    const std::lock_guard lock(graphs_mutex_);
    graphs_[++last_graph_] = executable;
    return last_graph_;
  }
  void abandon_capture(int index) noexcept override {
    try {
      enter_device(index);
      if (is_capturing()) static_cast<void>(cudaGraphDestroy(finish_capture()));
    } catch (const Error&) {  // the capture is invalid and leaves no graph
    }
    static_cast<void>(cudaGetLastError());
  }
  void launch_graph(int index, Graph graph) override {
    require_not_capturing("a graph launch");
    DeviceState& device = enter_device(index);
    check(cudaGraphLaunch(find_graph(graph), device.compute));
  }
  void release_graph(int index, Graph graph) noexcept override {
    try {
      enter_device(index);
      const std::lock_guard lock(graphs_mutex_);
      if (const auto found = graphs_.extract(graph)) static_cast<void>(cudaGraphExecDestroy(found.mapped()));
    } catch (const Error&) {
    }
  }

  std::unique_ptr<Collective> open_collective(int index, int rank, int size, const Exchange& exchange,
                                              const std::function<void(const std::string&)>& on_note) override {
    enter_device(index);
    return open_nccl(index, rank, size, exchange, on_note);
  }

 private:
  static cudaGraph_t finish_capture() {
    const cudaStream_t stream = compute_stream();
    set_capture_stream(nullptr);
    cudaGraph_t graph = nullptr;
    const cudaError_t status = cudaStreamEndCapture(stream, &graph);
    static_cast<void>(cudaStreamDestroy(stream));
    check(status);
    require<DeviceError>(graph != nullptr, "cuda: the captured work cannot become a graph");
    return graph;
  }
  cudaGraphExec_t find_graph(Graph graph) {
    const std::lock_guard lock(graphs_mutex_);
    const auto found = graphs_.find(graph);
    require<DeviceError>(found != graphs_.end(), "cuda: no graph ", graph);
    return found->second;
  }

  std::mutex graphs_mutex_;
  std::map<Graph, cudaGraphExec_t> graphs_;
  Graph last_graph_ = 0;
};

const std::string& problem() {
  static const std::string* const found = new std::string(find_problem());
  return *found;
}

// Never destroyed: pools give memory back to it when the program ends.
const bool added = [] {
  if (problem().empty()) add_runtime(DeviceKind::Cuda, new CudaRuntime);
  return true;
}();

}  // namespace

void check(cudaError_t status, const std::source_location&) {
  if (status == cudaSuccess) return;
  const bool is_late = is_from_earlier_kernel(status) && !waits_after_kernels();
  throw DeviceError(concat_text("cuda: ", cudaGetErrorString(status),
                                is_late ? "; a kernel that was started earlier failed: set MBLM_CUDA_BLOCKING=1 to find out which" : ""));
}

}  // namespace mblm::cuda

// Null, or the reason why the module added no runtime (load_backends in engine/device.h).
extern "C" __attribute__((visibility("default"))) const char* mblm_backend_problem() {
  const std::string& text = mblm::cuda::problem();
  return text.empty() ? nullptr : text.c_str();
}
