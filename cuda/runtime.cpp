// The Runtime of CUDA devices. Host code only.
#include <cuda_runtime.h>

#include "cuda/launch.h"
#include "engine/device.h"

namespace mblm::cuda {

void check(cudaError_t status, const std::source_location&) {
  require<DeviceError>(status == cudaSuccess, "cuda: ", cudaGetErrorString(status));
}

cudaStream_t compute_stream() {
  static const cudaStream_t only = [] {
    cudaStream_t created = nullptr;
    check(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
    return created;
  }();
  return only;
}

namespace {

class CudaRuntime final : public Runtime {
 public:
  std::vector<DeviceInfo> devices() override {
    int count = 0;
    std::vector<DeviceInfo> all;
    if (cudaGetDeviceCount(&count) != cudaSuccess) return all;
    for (int i = 0; i < count; ++i) {
      cudaDeviceProp p;
      check(cudaGetDeviceProperties(&p, i));
      all.push_back({Device{DeviceKind::Cuda, i}, concat_text(p.name, ", capability ", p.major, '.', p.minor), p.totalGlobalMem});
    }
    return all;
  }
  void* allocate(int, std::size_t bytes) override {
    void* data = nullptr;
    return cudaMalloc(&data, bytes) == cudaSuccess ? data : nullptr;
  }
  void release(int, void* data) noexcept override { cudaFree(data); }
  void fill_zero(int, void* data, std::size_t bytes) override { check(cudaMemsetAsync(data, 0, bytes, compute_stream())); }
  void copy(int, void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, compute_stream()));
  }
  void from_host(int, void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, compute_stream()));
    check(cudaStreamSynchronize(compute_stream()));
  }
  void to_host(int, void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, compute_stream()));
    check(cudaStreamSynchronize(compute_stream()));
  }
};

// Never destroyed: pools give memory back to it when the program ends.
const bool added = [] {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) add_runtime(DeviceKind::Cuda, new CudaRuntime);
  return true;
}();

}  // namespace
}  // namespace mblm::cuda
