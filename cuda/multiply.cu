#include "ops/multiply.h"

#include "cuda/map_repeated.h"

namespace mblm::cuda {
namespace {

struct Multiply {
  __device__ float operator()(float a, float b) const { return a * b; }
};

void forward(const Tensor& a, const Tensor& b, Tensor& y) { map_pair<true>("multiply_forward", Multiply{}, a, b, y); }

const bool added = add_kernel(multiply_forward, forward);

}  // namespace
}  // namespace mblm::cuda
