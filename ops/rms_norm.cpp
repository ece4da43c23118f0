#include "ops/rms_norm.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, RmsForm, double, Tensor&, Tensor&)> rms_norm_forward{"rms_norm_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor&, Tensor&, float)> rms_norm_backward{"rms_norm_backward"};

Tensor rms_norm(const Tensor& x, const Tensor& weight, RmsForm form, double eps, std::optional<DType> y_dtype) {
  require_floating("rms_norm", x);
  require<ShapeError>(x.rank() >= 1, "rms_norm: expected rank >= 1, got shape ", x.shape());
  require_shape("rms_norm", "weight", weight, Shape{x.shape().last()});
  require_dtype("rms_norm", "weight", weight, wide_dtype(x));
  Tensor y = empty(x.shape(), output_dtype("rms_norm", x, y_dtype), x.device());
  Tensor rstd = empty(Shape{x.shape().rows()}, wide_dtype(x), x.device());
  rms_norm_forward(x, weight, form, eps, y, rstd);
  return record("rms_norm", {x, weight}, y, [x = x.detach(), weight, rstd](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x);
    GradSlot dweight = grad_slot(weight);
    rms_norm_backward(x, weight, rstd, dy, dx, dweight.tensor, dweight.beta);
    return {dx, dweight.done()};
  });
}

}  // namespace mblm
