#include "ops/softmax.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> softmax_forward{"softmax_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> softmax_backward{"softmax_backward"};

Tensor softmax(const Tensor& x) {
  require_floating("softmax", x);
  require<ShapeError>(x.rank() >= 1, "softmax: expected rank >= 1, got shape ", x.shape());
  Tensor y = empty_like(x);
  softmax_forward(x, y);
  return record("softmax", {x}, y, [y](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(y);
    softmax_backward(y, dy, dx);
    return {dx};
  });
}

}  // namespace mblm
