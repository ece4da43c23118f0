#include "ops/relu.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> relu_forward{"relu_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> relu_backward{"relu_backward"};

Tensor relu(const Tensor& x) {
  require_floating("relu", x);
  Tensor y = empty_like(x);
  relu_forward(x, y);
  return record("relu", {x}, y, [y](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(y);
    relu_backward(y, dy, dx);
    return {dx};
  });
}

}  // namespace mblm
