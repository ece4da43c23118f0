#include "ops/tanh.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> tanh_forward{"tanh_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> tanh_backward{"tanh_backward"};

Tensor tanh(const Tensor& x) {
  require_floating("tanh", x);
  Tensor y = empty_like(x);
  tanh_forward(x, y);
  return record("tanh", {x}, y, [y](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(y);
    tanh_backward(y, dy, dx);
    return {dx};
  });
}

}  // namespace mblm
