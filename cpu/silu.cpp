#include "ops/silu.h"

#include "cpu/kernel.h"
#include "cpu/simd_math.h"

namespace mblm {
namespace {

// Runs f(i) for every element, in vector lanes.
template <class F>
void for_each_element(std::int64_t n, F&& f) {
  parallel_tiles(n, elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) f(i);
  });
}

// With s = sigmoid(x): silu'(x) = s (1 + x (1 - s)).
template <class T>
inline T silu_slope(T x, T s) {
  return s * (1 + x * (1 - s));
}

void forward(const Tensor& x, Tensor& y) {
  for_real_type("silu_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { out[i] = in[i] * sigmoid(in[i]); });
  });
}

void backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_real_type("silu_backward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_each_element(x.numel(), [=](std::int64_t i) { out[i] = d[i] * silu_slope(in[i], sigmoid(in[i])); });
  });
}

void gate_forward(const Tensor& x, const Tensor& z, Tensor& y) {
  for_real_type("silu_gate_forward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *gate = data<T>(z);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { out[i] = in[i] * (gate[i] * sigmoid(gate[i])); });
  });
}

// dx = dy silu(z); dz = dy x silu'(z)
void gate_backward(const Tensor& x, const Tensor& z, const Tensor& dy, Tensor& dx, Tensor& dz) {
  for_real_type("silu_gate_backward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *gate = data<T>(z), *d = data<T>(dy);
    T *out_x = data<T>(dx), *out_z = data<T>(dz);
    for_each_element(x.numel(), [=](std::int64_t i) {
      const T s = sigmoid(gate[i]);
      out_x[i] = d[i] * gate[i] * s;
      out_z[i] = d[i] * in[i] * silu_slope(gate[i], s);
    });
  });
}

const bool added = add_cpu_kernel(silu_forward, forward) && add_cpu_kernel(silu_backward, backward) &&
                   add_cpu_kernel(silu_gate_forward, gate_forward) && add_cpu_kernel(silu_gate_backward, gate_backward);

}  // namespace
}  // namespace mblm
