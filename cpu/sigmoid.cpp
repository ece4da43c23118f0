#include "ops/sigmoid.h"

#include "cpu/elementwise.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, Tensor& y) {
  for_floating_type("sigmoid_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], scalar::sigmoid(read(in[i]))); });
  });
}

// dx = dy y (1 - y)
void backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  for_floating_type("sigmoid_backward", y.dtype(), [&]<class T>() {
    const T *kept = data<T>(y), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_each_element(y.numel(), [=](std::int64_t i) { write(out[i], read(d[i]) * read(kept[i]) * (1 - read(kept[i]))); });
  });
}

const bool added = add_cpu_floating_kernel(sigmoid_forward, forward) && add_cpu_floating_kernel(sigmoid_backward, backward);

}  // namespace
}  // namespace mblm
