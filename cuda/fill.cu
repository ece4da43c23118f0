#include "cuda/map.h"
#include "engine/elementwise.h"

namespace mblm::cuda {
namespace {

// A thread writes one pack of 16 bytes, or the elements after the last full pack.
template <class T, int N>
__global__ void __launch_bounds__(map_threads) fill_elements(T value, std::int64_t n, T* x) {
  const std::int64_t begin = (std::int64_t{blockIdx.x} * map_threads + threadIdx.x) * N;
  if (begin + N <= n) {
    Pack<T, N> pack;
#pragma unroll
    for (int j = 0; j < N; ++j) pack.v[j] = value;
    *reinterpret_cast<Pack<T, N>*>(x + begin) = pack;
  } else {
    for (std::int64_t i = begin; i < n; ++i) x[i] = value;
  }
}

template <class T>
void fill_array(T value, std::int64_t n, T* x) {
  constexpr int N = bytes_per_access / sizeof(T);
  if (is_aligned(x, bytes_per_access))
    launch<fill_elements<T, N>>(blocks_for(n, std::int64_t{N} * map_threads), map_threads, 0, value, n, x);
  else
    launch<fill_elements<T, 1>>(blocks_for(n, map_threads), map_threads, 0, value, n, x);
}

void run(Tensor& x, double value) {
  if (x.dtype() == DType::Float64) return fill_array(value, x.numel(), data<double>(x));
  for_element_type("fill", x.dtype(), [&]<class T>() { fill_array(element_cast<T>(value), x.numel(), data<T>(x)); });
}

const bool added = add_kernel(fill, run, {DType::Float32, DType::BFloat16, DType::Float64});

}  // namespace
}  // namespace mblm::cuda
