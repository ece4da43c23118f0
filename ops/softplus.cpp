#include "ops/softplus.h"

#include "ops/check.h"
#include "ops/sequence.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> softplus_forward{"softplus_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, Tensor&)> softplus_backward{"softplus_backward"};

Tensor softplus(const Tensor& x, const Tensor& bias) {
  require_floating("softplus", x);
  require<ShapeError>(x.rank() >= 1, "softplus: expected rank >= 1, got shape ", x.shape());
  require_shape("softplus", "bias", bias, Shape{x.shape().last()});
  require_dtype("softplus", "bias", bias, x.dtype());
  Tensor y = empty_like(x);
  softplus_forward(x, bias, y);
  return record("softplus", {x, bias}, y, [x = x.detach(), bias](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x);
    softplus_backward(x, bias, dy, dx);
    // The column sums of dx: a batch of rows, each a sequence of one.
    const std::int64_t width = x.shape().last();
    GradSlot dbias = grad_slot(bias);
    Tensor sums = dbias.tensor.reshape(Shape{1, width});
    sum_over_batch(dx.reshape(Shape{x.shape().rows(), 1, width}), 0, sums, dbias.beta);
    return {dx, dbias.done()};
  });
}

}  // namespace mblm
