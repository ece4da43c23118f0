#include "ops/relu.h"

#include "cpu/elementwise.h"

namespace mblm {
namespace {

// The comparison is false for NaN, which passes through.
void forward(const Tensor& x, Tensor& y) {
  for_floating_type("relu_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], read(in[i]) < 0 ? 0 : read(in[i])); });
  });
}

void backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  for_floating_type("relu_backward", y.dtype(), [&]<class T>() {
    const T *kept = data<T>(y), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_each_element(y.numel(), [=](std::int64_t i) {
      const Real<T> v = read(kept[i]), g = read(d[i]);  // both are read in any case, so that the loop has no branch
      write(out[i], v <= 0 ? Real<T>(0) : g);
    });
  });
}

const bool added = add_cpu_floating_kernel(relu_forward, forward) && add_cpu_floating_kernel(relu_backward, backward);

}  // namespace
}  // namespace mblm
