#include "cuda/map.h"
#include "engine/elementwise.h"

namespace mblm::cuda {
namespace {

struct Add {
  __device__ float operator()(float sum, float x) const { return sum + x; }
};

// float32: 12 bytes per element.
void run(Tensor& sum, const Tensor& x) {
  for_element_types("accumulate", sum.dtype(), x.dtype(), [&]<class S, class X>() {
    S* s = data<S>(sum);
    map(Add{}, sum.numel(), s, static_cast<const S*>(s), data<X>(x));
  });
}

const bool added = add_kernel(accumulate, run);

}  // namespace
}  // namespace mblm::cuda
