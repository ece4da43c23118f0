#include "ops/linear.h"

#include "engine/inference.h"
#include "ops/bias_gradient.h"
#include "ops/cast.h"
#include "ops/check.h"
#include "ops/matmul.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, Tensor&)> linear_inference_forward{"linear_inference_forward"};

namespace {

void check(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  require_floating("linear", x);
  require<ShapeError>(x.rank() >= 1, "linear: expected x of rank >= 1, got shape ", x.shape());
  require_weight("linear", "weight", weight, x);
  require<ShapeError>(weight.rank() == 2 && weight.size(1) == x.shape().last(), "linear: expected weight of shape (N, ", x.shape().last(), "), got ",
                      weight.shape());
  if (!bias.defined()) return;
  require_shape("linear", "bias", bias, Shape{weight.size(0)});
  require_dtype("linear", "bias", bias, wide_dtype(x));
}

Tensor as_rows(const Tensor& x) { return x.reshape(Shape{x.shape().rows(), x.shape().last()}); }

// x in the dtype of the weight, as a factor of the product; detached.
Tensor as_factor(const Tensor& x, const Tensor& weight) {
  const NoGradScope no_grad;
  return cast(x.detach(), weight.dtype());
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, std::optional<DType> y_dtype) {
  check(x, weight, bias);
  Tensor y = empty(x.shape().with(-1, weight.size(0)), output_dtype("linear", x, y_dtype), x.device());
  Tensor y_rows = as_rows(y);
  if (is_inference()) {
    linear_inference_forward(as_rows(x), weight, bias, y_rows);
    return y;
  }
  const Tensor factor = as_factor(x, weight);
  matmul_forward(as_rows(factor), weight, bias, y_rows, {.transpose_b = true});
  const DType x_dtype = x.dtype();
  const bool wants_dx = x.wants_grad();
  return record("linear", {x, weight, bias}, y, [factor, weight, bias, x_dtype, wants_dx](const Tensor& dy) -> std::vector<Tensor> {
    const Tensor dy_rows = as_rows(dy), dy_factor = as_factor(dy_rows, weight);
    std::vector<Tensor> dxs(3);
    if (wants_dx) {
      dxs[0] = empty(factor.shape(), x_dtype, dy.device());
      Tensor dx_rows = as_rows(dxs[0]);
      matmul_forward(dy_factor, weight, {}, dx_rows, {});
    }
    if (weight.wants_grad()) {
      GradSlot dweight = grad_slot(weight);
      matmul_forward(dy_factor, as_rows(factor), {}, dweight.tensor, {.transpose_a = true, .beta = dweight.beta});
      dxs[1] = dweight.done();
    }
    if (bias.wants_grad()) dxs[2] = bias_gradient(bias, dy);
    return dxs;
  });
}

}  // namespace mblm
