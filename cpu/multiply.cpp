#include "ops/multiply.h"

#include "cpu/elementwise.h"

namespace mblm {
namespace {

// Memory bound: 12 bytes and one multiplication per element.
void forward(const Tensor& a, const Tensor& b, Tensor& y) {
  for_floating_type("multiply_forward", a.dtype(), [&]<class T>() {
    const T *pa = data<T>(a), *pb = data<T>(b);
    T* out = data<T>(y);
    for_each_element(y.numel(), [=](std::int64_t i) { write(out[i], read(pa[i]) * read(pb[i])); });
  });
}

const bool added = add_cpu_floating_kernel(multiply_forward, forward);

}  // namespace
}  // namespace mblm
