#include "cpu/elementwise.h"
#include "engine/elementwise.h"

namespace mblm {
namespace {

// Memory bound. Conversions between float64 and bfloat16 round to float32 first.
void run(const Tensor& x, Tensor& y) {
  for_floating_type("convert", x.dtype(), [&]<class From>() {
    for_floating_type("convert", y.dtype(), [&]<class To>() {
      const From* in = data<From>(x);
      To* out = data<To>(y);
      for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], read(in[i])); });
    });
  });
}

const bool added = convert.add(DeviceKind::Cpu, floating_types, run);

}  // namespace
}  // namespace mblm
