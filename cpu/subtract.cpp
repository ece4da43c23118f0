#include "ops/subtract.h"

#include "cpu/elementwise.h"

namespace mblm {
namespace {

void forward(const Tensor& a, const Tensor& b, Tensor& y) {
  for_each_pair("subtract_forward", a, b, y, [](auto u, auto v) { return u - v; });
}

const bool added = add_cpu_floating_kernel(subtract_forward, forward);

}  // namespace
}  // namespace mblm
