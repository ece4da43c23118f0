// The one kernel of element-wise ops: y[i] = f(x0[i], x1[i], ...), for float32 and bfloat16 arrays in any combination.
#pragma once

#include <type_traits>

#include "cuda/kernel.h"

namespace mblm::cuda {

inline constexpr unsigned map_threads = 256;
inline constexpr int bytes_per_access = 16;  // of the widest array; narrower arrays use smaller accesses

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

template <class F, class... X>
__device__ __forceinline__ float map_element(const F& f, std::int64_t i, X... x) {
  if constexpr (std::is_invocable_v<const F&, std::int64_t, X...>)
    return f(i, x...);
  else
    return f(x...);
}

// A thread computes N neighbouring elements; the thread after the last full pack computes the remaining ones. Arithmetic is float32.
// Memory bound: every array is read or written once.
template <int N, class F, class Y, class... X>
__global__ void __launch_bounds__(map_threads) map_elements(F f, std::int64_t n, Y* y, const X*... x) {
  const std::int64_t pack = std::int64_t{blockIdx.x} * map_threads + threadIdx.x, begin = pack * N;
  if (begin >= n) return;
  if (begin + N <= n) {
    // A lambda turns the parameter pack of addresses into arrays of N values.
    [&](auto... read) {
      float out[N];
#pragma unroll
      for (int j = 0; j < N; ++j) out[j] = map_element(f, begin + j, to_float(read.v[j])...);
      write_pack<N>(y + begin, out);
    }(*reinterpret_cast<const Pack<X, N>*>(x + begin)...);
    return;
  }
  for (std::int64_t i = begin; i < n; ++i) y[i] = from_float<Y>(map_element(f, i, to_float(x[i])...));
}

#endif

// Starts the kernel for n elements. F is trivially copyable and has `__device__ float operator()(float x0, ...) const`, with an
// additional first argument `std::int64_t i` if it needs the index. y may be one of the inputs.
template <class F, class Y, class... X>
void map(const F& f, std::int64_t n, Y* y, const X*... x) {
  constexpr int N = bytes_per_access / std::max({sizeof(Y), sizeof(X)...});
  const bool aligned = is_aligned(y, N * sizeof(Y)) && (is_aligned(x, N * sizeof(X)) && ...);
  if (aligned)
    launch<map_elements<N, F, Y, X...>>(blocks_for(n, std::int64_t{N} * map_threads), map_threads, 0, f, n, y, x...);
  else
    launch<map_elements<1, F, Y, X...>>(blocks_for(n, map_threads), map_threads, 0, f, n, y, x...);
}

}  // namespace mblm::cuda
