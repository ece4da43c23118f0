#include "ops/softplus.h"

#include "cpu/kernel.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, const Tensor& bias, Tensor& y) {
  for_mixed_types("softplus_forward", x.dtype(), bias.dtype(), [&]<class X, class B>() {
    const std::int64_t width = x.shape().last();
    const X* px = data<X>(x);
    const B* b = data<B>(bias);
    B* py = data<B>(y);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const X* in = px + row * width;
        B* out = py + row * width;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) write(out[i], scalar::softplus(read(in[i]) + read(b[i])));
      }
    });
  });
}

// dx = dy sigmoid(x + bias)
void backward(const Tensor& x, const Tensor& bias, const Tensor& dy, Tensor& dx) {
  for_mixed_types("softplus_backward", x.dtype(), bias.dtype(), [&]<class X, class B>() {
    const std::int64_t width = x.shape().last();
    const X* px = data<X>(x);
    const B *b = data<B>(bias), *pdy = data<B>(dy);
    X* pdx = data<X>(dx);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const X* in = px + row * width;
        const B* d = pdy + row * width;
        X* out = pdx + row * width;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) write(out[i], read(d[i]) * scalar::sigmoid(read(in[i]) + read(b[i])));
      }
    });
  });
}

const bool added = add_cpu_floating_kernel(softplus_forward, forward) && add_cpu_floating_kernel(softplus_backward, backward);

}  // namespace
}  // namespace mblm
