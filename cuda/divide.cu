#include "ops/divide.h"

#include "cuda/map_repeated.h"

namespace mblm::cuda {
namespace {

struct Divide {
  __device__ float operator()(float a, float b) const { return a / b; }
};
// db = -dy y / b
struct Gradient {
  __device__ float operator()(float y, float b, float dy) const { return -dy * y / b; }
};

void forward(const Tensor& a, const Tensor& b, Tensor& y) { map_pair<false>("divide_forward", Divide{}, a, b, y); }

// float32: 16 bytes per element.
void backward(const Tensor& y, const Tensor& b, const Tensor& dy, Tensor& db) {
  for_element_types("divide_backward", y.dtype(), b.dtype(), [&]<class Y, class B>() {
    map(Gradient{}, y.numel(), data<B>(db), data<Y>(y), data<B>(b), data<Y>(dy));
  });
}

const bool added = add_kernel(divide_forward, forward) && add_kernel(divide_backward, backward);

}  // namespace
}  // namespace mblm::cuda
