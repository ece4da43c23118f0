#include "ops/multiply.h"

#include "cpu/elementwise.h"

namespace mblm {
namespace {

void forward(const Tensor& a, const Tensor& b, Tensor& y) {
  for_each_pair("multiply_forward", a, b, y, [](auto u, auto v) { return u * v; });
}

const bool added = add_cpu_floating_kernel(multiply_forward, forward);

}  // namespace
}  // namespace mblm
