#include "cuda/map.h"
#include "engine/elementwise.h"

namespace mblm::cuda {
namespace {

// A thread converts N neighbouring elements: 16 bytes of the wider type. Conversions between float64 and bfloat16 round to float32
// first. float64 elements that stay float64 keep all their bits.
template <class From, class To, int N>
__global__ void __launch_bounds__(map_threads) convert_elements(const From* x, std::int64_t n, To* y) {
  const std::int64_t begin = (std::int64_t{blockIdx.x} * map_threads + threadIdx.x) * N;
  if (begin + N <= n) {
    const Pack<From, N> in = *reinterpret_cast<const Pack<From, N>*>(x + begin);
    Pack<To, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) out.v[j] = element_cast<To>(in.v[j]);
    *reinterpret_cast<Pack<To, N>*>(y + begin) = out;
  } else {
    for (std::int64_t i = begin; i < n; ++i) y[i] = element_cast<To>(x[i]);
  }
}

template <class From, class To>
void convert_array(const From* x, std::int64_t n, To* y) {
  constexpr int N = bytes_per_access / std::max(sizeof(From), sizeof(To));
  if (is_aligned(x, N * sizeof(From)) && is_aligned(y, N * sizeof(To)))
    launch<convert_elements<From, To, N>>(blocks_for(n, std::int64_t{N} * map_threads), map_threads, 0, x, n, y);
  else
    launch<convert_elements<From, To, 1>>(blocks_for(n, map_threads), map_threads, 0, x, n, y);
}

struct Copy {
  __device__ float operator()(float x) const { return x; }
};

void run(const Tensor& x, Tensor& y) {
  if (x.dtype() != DType::Float64 && y.dtype() != DType::Float64) {
    for_element_types("convert", x.dtype(), y.dtype(), [&]<class From, class To>() { map(Copy{}, x.numel(), data<To>(y), data<From>(x)); });
  } else if (x.dtype() == y.dtype()) {
    convert_array(data<double>(x), x.numel(), data<double>(y));
  } else if (x.dtype() == DType::Float64) {
    for_element_type("convert", y.dtype(), [&]<class To>() { convert_array(data<double>(x), x.numel(), data<To>(y)); });
  } else {
    for_element_type("convert", x.dtype(), [&]<class From>() { convert_array(data<From>(x), x.numel(), data<double>(y)); });
  }
}

const bool added = add_kernel(convert, run, {DType::Float32, DType::BFloat16, DType::Float64});

}  // namespace
}  // namespace mblm::cuda
