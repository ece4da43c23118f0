#include "ops/sigmoid.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> sigmoid_forward{"sigmoid_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> sigmoid_backward{"sigmoid_backward"};

Tensor sigmoid(const Tensor& x) {
  require_floating("sigmoid", x);
  Tensor y = empty_like(x);
  sigmoid_forward(x, y);
  return record("sigmoid", {x}, y, [y](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(y);
    sigmoid_backward(y, dy, dx);
    return {dx};
  });
}

}  // namespace mblm
