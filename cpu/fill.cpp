#include "cpu/elementwise.h"
#include "engine/elementwise.h"

namespace mblm {
namespace {

void run(Tensor& x, double value) {
  for_floating_type("fill", x.dtype(), [&]<class T>() {
    T* out = data<T>(x);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], value); });
  });
}

const bool added = fill.add(DeviceKind::Cpu, floating_types, run);

}  // namespace
}  // namespace mblm
