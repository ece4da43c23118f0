#include "ops/softplus.h"

#include "cuda/map.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

// The bias of a column comes from the L1 cache: a row of it is short (the heads or channels of a block).
template <class B>
struct Softplus {
  const B* bias;
  __device__ float operator()(std::int64_t column, float x) const { return scalar::softplus(x + to_float(bias[column])); }
};
// dx = dy sigmoid(x + bias)
template <class B>
struct Gradient {
  const B* bias;
  __device__ float operator()(std::int64_t column, float x, float dy) const { return dy * scalar::sigmoid(x + to_float(bias[column])); }
};

// bfloat16 x and float32 bias: 6 bytes per element forward, 8 backward.
void forward(const Tensor& x, const Tensor& bias, Tensor& y) {
  for_element_types("softplus_forward", x.dtype(), bias.dtype(), [&]<class X, class B>() {
    map_columns(Softplus<B>{data<B>(bias)}, x.numel(), bias.numel(), data<B>(y), data<X>(x));
  });
}

void backward(const Tensor& x, const Tensor& bias, const Tensor& dy, Tensor& dx) {
  for_element_types("softplus_backward", x.dtype(), bias.dtype(), [&]<class X, class B>() {
    map_columns(Gradient<B>{data<B>(bias)}, x.numel(), bias.numel(), data<X>(dx), data<X>(x), data<B>(dy));
  });
}

const bool added = add_kernel(softplus_forward, forward) && add_kernel(softplus_backward, backward);

}  // namespace
}  // namespace mblm::cuda
