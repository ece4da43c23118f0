#include "ops/linear.h"

#include "ops/cast.h"
#include "ops/check.h"
#include "ops/matmul.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&, float)> column_sums{"column_sums"};

namespace {

void check(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  require_floating("linear", x);
  require<ShapeError>(x.rank() >= 1, "linear: expected x of rank >= 1, got shape ", x.shape());
  const bool mixed = x.dtype() == DType::Float32 && weight.dtype() == DType::BFloat16;
  if (!mixed) require_dtype("linear", "weight", weight, x.dtype());
  require<ShapeError>(weight.rank() == 2 && weight.size(1) == x.shape().last(), "linear: expected weight (N, ", x.shape().last(), "), got ",
                      weight.shape());
  if (!bias.defined()) return;
  require_shape("linear", "bias", bias, Shape{weight.size(0)});
  require_dtype("linear", "bias", bias, x.dtype());
}

Tensor as_rows(const Tensor& x) { return x.reshape(Shape{x.shape().rows(), x.shape().last()}); }

// x as a factor of a product with the weight.
Tensor as_factor(const Tensor& x, const Tensor& weight) {
  const NoGradScope no_grad;
  return cast(x.detach(), weight.dtype());
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check(x, weight, bias);
  Tensor y = empty(x.shape().with(-1, weight.size(0)), x.dtype(), x.device());
  Tensor y_rows = as_rows(y);
  const Tensor factor = as_factor(x, weight);
  matmul_kernel(as_rows(factor), weight, bias, y_rows, {.transpose_b = true});
  const bool wants_dx = x.wants_grad();
  return record("linear", {x, weight, bias}, y, [factor, weight, bias, wants_dx](const Tensor& dy) -> std::vector<Tensor> {
    const Tensor dy_rows = as_rows(dy), dy_factor = as_factor(dy_rows, weight);
    std::vector<Tensor> dxs(3);
    if (wants_dx) {
      dxs[0] = empty(factor.shape(), dy.dtype(), dy.device());
      Tensor dx_rows = as_rows(dxs[0]);
      matmul_kernel(dy_factor, weight, {}, dx_rows, {});
    }
    if (weight.wants_grad()) {
      GradSlot dweight = grad_slot(weight, dy.dtype());
      matmul_kernel(dy_factor, as_rows(factor), {}, dweight.tensor, {.transpose_a = true, .beta = dweight.beta});
      dxs[1] = dweight.done();
    }
    if (bias.wants_grad()) {
      GradSlot dbias = grad_slot(bias);
      column_sums(dy_rows, dbias.tensor, dbias.beta);
      dxs[2] = dbias.done();
    }
    return dxs;
  });
}

}  // namespace mblm
