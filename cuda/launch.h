// Starting kernels, and their shared memory. nvcc compiles the kernels for the GPU; for the tests, a C++ compiler compiles the same
// files against the emulator's cuda_runtime.h (tests/cuda/emulator). So kernels are started by launch() only, never by <<<>>>.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <source_location>
#include <tuple>
#include <utility>

#include "engine/error.h"

namespace mblm::cuda {

// The compute stream of the calling thread's current device, or the stream that captures its work. Kernel slots make the device of their
// tensors current.
cudaStream_t compute_stream();

// Throws DeviceError with the text of a CUDA status that is not success.
void check(cudaError_t status, const std::source_location& where = std::source_location::current());

inline constexpr std::size_t default_shared_bytes = 48 * 1024;  // larger blocks of shared memory must be requested

// The largest shared memory that was requested for a kernel, per device.
using RequestedShared = std::array<std::atomic<std::size_t>, 64>;
// Requests more shared memory for a kernel on the current device, unless as much was requested before.
void request_shared(const void* kernel, std::size_t bytes, RequestedShared& requested);

template <auto kernel>
struct Launch;
template <class... Parameters, void (*kernel)(Parameters...)>
struct Launch<kernel> {
  template <class... Arguments>
  static void run(dim3 grid, dim3 block, std::size_t shared_bytes, const Arguments&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "launch: the number of arguments differs from the kernel's");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    std::tuple<Parameters...> values{static_cast<Parameters>(arguments)...};
#ifdef EMULATED_CUDA
    emulator::launch(compute_stream(), __PRETTY_FUNCTION__, grid, block, shared_bytes, [=] { std::apply(kernel, values); });
#else
    std::apply(
        [&](auto&... value) {
          void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))...};
          const void* function = reinterpret_cast<const void*>(kernel);
          static RequestedShared requested{};
          if (shared_bytes > default_shared_bytes) request_shared(function, shared_bytes, requested);
          check(cudaLaunchKernel(function, grid, block, pointers, shared_bytes, compute_stream()));
        },
        values);
#endif
  }
};

// launch<kernel<T, 4>>(grid, block, bytes of shared memory, arguments...) starts a kernel on the compute stream. An empty grid
// starts nothing. Throws DeviceError if the launch is refused.
template <auto kernel, class... Arguments>
void launch(dim3 grid, dim3 block, std::size_t shared_bytes, const Arguments&... arguments) {
  Launch<kernel>::run(grid, block, shared_bytes, arguments...);
}

// The block's shared memory as one object, which is not initialized: `Tiles& tiles = shared_memory<Tiles>();`. The kernel is launched
// with sizeof(Tiles) bytes.
#if defined(__CUDACC__)
template <class T>
__device__ __forceinline__ T& shared_memory() {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  return *reinterpret_cast<T*>(shared_bytes);
}
#elif defined(EMULATED_CUDA)
template <class T>
T& shared_memory(const emulator::Where& where = emulator::Where::current()) {
  return *static_cast<T*>(emulator::shared_memory(sizeof(T), alignof(T), where));
}
#endif

}  // namespace mblm::cuda
