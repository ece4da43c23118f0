#include "ops/gelu.h"

#include <numbers>

#include "cpu/kernel.h"
#include "cpu/simd_math.h"

namespace mblm {
namespace {

// Phi(x) = (1 + erf(x / sqrt 2)) / 2
template <class T>
inline T normal_distribution(T x) {
  return T(0.5) + T(0.5) * fast_erf(x * static_cast<T>(1 / std::numbers::sqrt2));
}

// exp(-x^2 / 2) / sqrt(2 pi)
template <class T>
inline T normal_density(T x) {
  return fast_exp(T(-0.5) * x * x) * static_cast<T>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
}

void forward(const Tensor& x, Tensor& y) {
  for_real_type("gelu_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) out[i] = in[i] * normal_distribution(in[i]);
    });
  });
}

// dx = dy (Phi(x) + x Phi'(x))
void backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_real_type("gelu_backward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *d = data<T>(dy);
    T* out = data<T>(dx);
    parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) out[i] = d[i] * (normal_distribution(in[i]) + in[i] * normal_density(in[i]));
    });
  });
}

const bool added = add_cpu_kernel(gelu_forward, forward) && add_cpu_kernel(gelu_backward, backward);

}  // namespace
}  // namespace mblm
