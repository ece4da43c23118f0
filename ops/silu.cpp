#include "ops/silu.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> silu_forward{"silu_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> silu_backward{"silu_backward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> silu_gate_forward{"silu_gate_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Tensor&)> silu_gate_backward{"silu_gate_backward"};

Tensor silu(const Tensor& x) {
  require_floating("silu", x);
  Tensor y = empty_like(x);
  silu_forward(x, y);
  return record("silu", {x}, y, [x = x.detach()](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x);
    silu_backward(x, dy, dx);
    return {dx};
  });
}

Tensor silu_gate(const Tensor& x, const Tensor& z) {
  require_floating("silu_gate", x);
  require_shape("silu_gate", "z", z, x.shape());
  require_dtype("silu_gate", "z", z, x.dtype());
  Tensor y = empty_like(x);
  silu_gate_forward(x, z, y);
  return record("silu_gate", {x, z}, y, [x = x.detach(), z = z.detach()](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x), dz = empty_like(z);
    silu_gate_backward(x, z, dy, dx, dz);
    return {dx, dz};
  });
}

}  // namespace mblm
