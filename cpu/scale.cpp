#include "ops/scale.h"

#include "cpu/elementwise.h"

namespace mblm {
namespace {

// Memory bound. The factor is rounded to the element type.
void forward(const Tensor& x, double factor, Tensor& y) {
  for_floating_type("scale_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    const Real<T> f = read(element_cast<T>(factor));
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], f * read(in[i])); });
  });
}

const bool added = add_cpu_floating_kernel(scale_forward, forward);

}  // namespace
}  // namespace mblm
