#include "ops/silu.h"

#include "cpu/elementwise.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

void forward(const Tensor& x, Tensor& y) {
  for_floating_type("silu_forward", x.dtype(), [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], scalar::silu(read(in[i]))); });
  });
}

void backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_floating_type("silu_backward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_each_element(x.numel(), [=](std::int64_t i) {
      const Real<T> v = read(in[i]);
      write(out[i], read(d[i]) * scalar::silu_slope(v, scalar::sigmoid(v)));
    });
  });
}

void gate_forward(const Tensor& x, const Tensor& z, Tensor& y) {
  for_floating_type("silu_gate_forward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *gate = data<T>(z);
    T* out = data<T>(y);
    for_each_element(x.numel(), [=](std::int64_t i) { write(out[i], read(in[i]) * scalar::silu(read(gate[i]))); });
  });
}

// dx = dy silu(z); dz = dy x silu'(z)
void gate_backward(const Tensor& x, const Tensor& z, const Tensor& dy, Tensor& dx, Tensor& dz) {
  for_floating_type("silu_gate_backward", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), *gate = data<T>(z), *d = data<T>(dy);
    T *out_x = data<T>(dx), *out_z = data<T>(dz);
    for_each_element(x.numel(), [=](std::int64_t i) {
      const Real<T> g = read(gate[i]), s = scalar::sigmoid(g), slope = read(d[i]);
      write(out_x[i], slope * g * s);
      write(out_z[i], slope * read(in[i]) * scalar::silu_slope(g, s));
    });
  });
}

const bool added = add_cpu_floating_kernel(silu_forward, forward) && add_cpu_floating_kernel(silu_backward, backward) &&
                   add_cpu_floating_kernel(silu_gate_forward, gate_forward) && add_cpu_floating_kernel(silu_gate_backward, gate_backward);

}  // namespace
}  // namespace mblm
