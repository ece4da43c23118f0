#include "cpu/elementwise.h"
#include "engine/elementwise.h"

namespace mblm {
namespace {

// Memory bound: 12 bytes and one addition per element.
void run(Tensor& sum, const Tensor& x) {
  for_mixed_types("accumulate", sum.dtype(), x.dtype(), [&]<class S, class X>() {
    S* s = data<S>(sum);
    const X* v = data<X>(x);
    for_each_element(sum.numel(), [=](std::int64_t i) { write(s[i], read(s[i]) + read(v[i])); });
  });
}

const bool added = accumulate.add(DeviceKind::Cpu, floating_types, run);

}  // namespace
}  // namespace mblm
