#include "ops/layer_norm.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, double, Tensor&, Tensor&)> layer_norm_forward{"layer_norm_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor&, Tensor&, float, Tensor&, float)> layer_norm_backward{
    "layer_norm_backward"};

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, std::optional<DType> y_dtype) {
  require_floating("layer_norm", x);
  require<ShapeError>(x.rank() >= 1, "layer_norm: expected rank >= 1, got shape ", x.shape());
  require_shape("layer_norm", "weight", weight, Shape{x.shape().last()});
  require_shape("layer_norm", "bias", bias, Shape{x.shape().last()});
  require_dtype("layer_norm", "weight", weight, wide_dtype(x));
  require_dtype("layer_norm", "bias", bias, wide_dtype(x));
  Tensor y = empty(x.shape(), output_dtype("layer_norm", x, y_dtype), x.device());
  Tensor statistics = empty(Shape{x.shape().rows(), 2}, wide_dtype(x), x.device());
  layer_norm_forward(x, weight, bias, eps, y, statistics);
  return record("layer_norm", {x, weight, bias}, y, [x = x.detach(), weight, bias, statistics](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x);
    GradSlot dweight = grad_slot(weight), dbias = grad_slot(bias);
    layer_norm_backward(x, weight, statistics, dy, dx, dweight.tensor, dweight.beta, dbias.tensor, dbias.beta);
    return {dx, dweight.done(), dbias.done()};
  });
}

}  // namespace mblm
