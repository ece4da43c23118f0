#include "ops/tanh.h"

#include "cpu/elementwise.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, Tensor& y) {
  for_real_type("tanh_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { out[i] = scalar::tanh(in[i]); });
  });
}

// dx = dy (1 - y^2)
void backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  for_real_type("tanh_backward", y.dtype(), [&]<class T>() {
    const T *kept = data<T>(y), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_each_element(y.numel(), [=](std::int64_t i) { out[i] = d[i] * (T(1) - kept[i] * kept[i]); });
  });
}

const bool added = add_cpu_kernel(tanh_forward, forward) && add_cpu_kernel(tanh_backward, backward);

}  // namespace
}  // namespace mblm
