#include "ops/softplus.h"

#include "ops/bias_gradient.h"
#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> softplus_forward{"softplus_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, Tensor&)> softplus_backward{"softplus_backward"};

Tensor softplus(const Tensor& x, const Tensor& bias) {
  require_floating("softplus", x);
  require<ShapeError>(x.rank() >= 1, "softplus: expected rank >= 1, got shape ", x.shape());
  require_shape("softplus", "bias", bias, Shape{x.shape().last()});
  require_weight("softplus", "bias", bias, x);
  Tensor y = empty(x.shape(), bias.dtype(), x.device());
  softplus_forward(x, bias, y);
  return record("softplus", {x, bias}, y, [x = x.detach(), bias](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x);
    softplus_backward(x, bias, dy, dx);
    return {dx, bias_gradient(bias, dx)};
  });
}

}  // namespace mblm
