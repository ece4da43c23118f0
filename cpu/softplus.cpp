#include "ops/softplus.h"

#include "cpu/kernel.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, const Tensor& bias, Tensor& y) {
  for_real_type("softplus_forward", x.dtype(), [&]<class T>() {
    const std::int64_t width = x.shape().last();
    const T *px = data<T>(x), *b = data<T>(bias);
    T* py = data<T>(y);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* in = px + row * width;
        T* out = py + row * width;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) out[i] = scalar::softplus(in[i] + b[i]);
      }
    });
  });
}

// dx = dy sigmoid(x + bias)
void backward(const Tensor& x, const Tensor& bias, const Tensor& dy, Tensor& dx) {
  for_real_type("softplus_backward", x.dtype(), [&]<class T>() {
    const std::int64_t width = x.shape().last();
    const T *px = data<T>(x), *b = data<T>(bias), *pdy = data<T>(dy);
    T* pdx = data<T>(dx);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T *in = px + row * width, *d = pdy + row * width;
        T* out = pdx + row * width;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) out[i] = d[i] * scalar::sigmoid(in[i] + b[i]);
      }
    });
  });
}

const bool added = add_cpu_kernel(softplus_forward, forward) && add_cpu_kernel(softplus_backward, backward);

}  // namespace
}  // namespace mblm
