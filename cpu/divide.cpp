#include "ops/divide.h"

#include "cpu/elementwise.h"

namespace mblm {
namespace {

void forward(const Tensor& a, const Tensor& b, Tensor& y) {
  for_each_pair("divide_forward", a, b, y, [](auto u, auto v) { return u / v; });
}

// db = -dy y / b
void backward(const Tensor& y, const Tensor& b, const Tensor& dy, Tensor& db) {
  for_mixed_types("divide_backward", y.dtype(), b.dtype(), [&]<class Y, class B>() {
    const Y *kept = data<Y>(y), *d = data<Y>(dy);
    const B* divisor = data<B>(b);
    B* out = data<B>(db);
    for_each_element(y.numel(), [=](std::int64_t i) { write(out[i], -read(d[i]) * read(kept[i]) / read(divisor[i])); });
  });
}

const bool added = add_cpu_floating_kernel(divide_forward, forward) && add_cpu_floating_kernel(divide_backward, backward);

}  // namespace
}  // namespace mblm
