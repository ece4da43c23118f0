#include "ops/add.h"

#include "cuda/map_repeated.h"

namespace mblm::cuda {
namespace {

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};

void forward(const Tensor& a, const Tensor& b, Tensor& y) { map_pair<true>("add_forward", Add{}, a, b, y); }

const bool added = add_kernel(add_forward, forward);

}  // namespace
}  // namespace mblm::cuda
