#include "ops/gelu.h"

#include "cpu/elementwise.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, Tensor& y) {
  for_floating_type("gelu_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], scalar::gelu(read(in[i]))); });
  });
}

void backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_floating_type("gelu_backward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], read(d[i]) * scalar::gelu_slope(read(in[i]))); });
  });
}

const bool added = add_cpu_floating_kernel(gelu_forward, forward) && add_cpu_floating_kernel(gelu_backward, backward);

}  // namespace
}  // namespace mblm
