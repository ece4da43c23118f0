#include "ops/silu.h"

#include "cuda/map.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

struct Silu {
  __device__ float operator()(float x) const { return scalar::silu(x); }
};
// dx = dy silu'(x)
struct SiluGradient {
  __device__ float operator()(float x, float dy) const { return dy * scalar::silu_slope(x, scalar::sigmoid(x)); }
};
struct Gate {
  __device__ float operator()(float x, float z) const { return x * scalar::silu(z); }
};
// dx = dy silu(z); dz = dy x silu'(z)
struct GateGradient {
  __device__ TwoFloats operator()(float x, float z, float dy) const {
    const float s = scalar::sigmoid(z);
    return {dy * z * s, dy * x * scalar::silu_slope(z, s)};
  }
};

// bfloat16: 4 bytes per element forward, 6 backward; the gate 6 and 10.
void forward(const Tensor& x, Tensor& y) {
  for_element_type("silu_forward", x.dtype(), [&]<class T>() { map(Silu{}, x.numel(), data<T>(y), data<T>(x)); });
}

void backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_element_type("silu_backward", x.dtype(), [&]<class T>() { map(SiluGradient{}, x.numel(), data<T>(dx), data<T>(x), data<T>(dy)); });
}

void gate_forward(const Tensor& x, const Tensor& z, Tensor& y) {
  for_element_type("silu_gate_forward", x.dtype(), [&]<class T>() { map(Gate{}, x.numel(), data<T>(y), data<T>(x), data<T>(z)); });
}

void gate_backward(const Tensor& x, const Tensor& z, const Tensor& dy, Tensor& dx, Tensor& dz) {
  for_element_type("silu_gate_backward", x.dtype(), [&]<class T>() {
    map(GateGradient{}, x.numel(), Outputs<T, T>{data<T>(dx), data<T>(dz)}, data<T>(x), data<T>(z), data<T>(dy));
  });
}

const bool added = add_kernel(silu_forward, forward) && add_kernel(silu_backward, backward) && add_kernel(silu_gate_forward, gate_forward) &&
                   add_kernel(silu_gate_backward, gate_backward);

}  // namespace
}  // namespace mblm::cuda
