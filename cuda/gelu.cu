#include "ops/gelu.h"

#include "cuda/map.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

struct Value {
  __device__ float operator()(float x) const { return scalar::gelu(x); }
};
// dx = dy (Phi(x) + x Phi'(x))
struct Gradient {
  __device__ float operator()(float x, float dy) const { return dy * scalar::gelu_slope(x); }
};

// bfloat16: 4 bytes per element forward, 6 backward.
void forward(const Tensor& x, Tensor& y) {
  for_element_type("gelu_forward", x.dtype(), [&]<class T>() { map(Value{}, x.numel(), data<T>(y), data<T>(x)); });
}

void backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_element_type("gelu_backward", x.dtype(), [&]<class T>() { map(Gradient{}, x.numel(), data<T>(dx), data<T>(x), data<T>(dy)); });
}

const bool added = add_kernel(gelu_forward, forward) && add_kernel(gelu_backward, backward);

}  // namespace
}  // namespace mblm::cuda
