#include "ops/tanh.h"

#include "cpu/kernel.h"
#include "cpu/simd_math.h"

namespace mblm {
namespace {

void forward(const Tensor& x, Tensor& y) {
  for_real_type("tanh_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) out[i] = fast_tanh(in[i]);
    });
  });
}

// dx = dy (1 - y^2)
void backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  for_real_type("tanh_backward", y.dtype(), [&]<class T>() {
    const T *kept = data<T>(y), *d = data<T>(dy);
    T* out = data<T>(dx);
    parallel_tiles(y.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) out[i] = d[i] * (T(1) - kept[i] * kept[i]);
    });
  });
}

const bool added = add_cpu_kernel(tanh_forward, forward) && add_cpu_kernel(tanh_backward, backward);

}  // namespace
}  // namespace mblm
