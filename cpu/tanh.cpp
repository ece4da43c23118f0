#include "ops/tanh.h"

#include "cpu/elementwise.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, Tensor& y) {
  for_floating_type("tanh_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], scalar::tanh(read(in[i]))); });
  });
}

// dx = dy (1 - y^2)
void backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  for_floating_type("tanh_backward", y.dtype(), [&]<class T>() {
    const T *kept = data<T>(y), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_each_element(y.numel(), [=](std::int64_t i) { write(out[i], read(d[i]) * (1 - read(kept[i]) * read(kept[i]))); });
  });
}

const bool added = add_cpu_floating_kernel(tanh_forward, forward) && add_cpu_floating_kernel(tanh_backward, backward);

}  // namespace
}  // namespace mblm
