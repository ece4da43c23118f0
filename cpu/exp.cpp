#include "ops/exp.h"

#include "cpu/elementwise.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, Tensor& y) {
  for_floating_type("exp_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], scalar::exp(read(in[i]))); });
  });
}

const bool added = add_cpu_floating_kernel(exp_forward, forward);

}  // namespace
}  // namespace mblm
