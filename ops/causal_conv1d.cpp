#include "ops/causal_conv1d.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor&, Tensor&)> causal_conv1d_forward{"causal_conv1d_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, CausalConv1dGradients&)>
    causal_conv1d_backward{"causal_conv1d_backward"};

namespace {

void check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window) {
  const char* op = "causal_conv1d_silu";
  require_floating(op, x);
  require<ShapeError>(x.rank() == 3, op, ": expected x of shape (batch, tokens, channels), got ", x.shape());
  const std::int64_t channels = x.size(2);
  require<ShapeError>(weight.rank() == 3 && weight.size(0) == channels && weight.size(1) == 1 && weight.size(2) >= 1, op,
                      ": expected weight of shape (", channels, ", 1, width), got ", weight.shape());
  require_dtype(op, "weight", weight, wide_dtype(x));
  require_shape(op, "bias", bias, Shape{channels});
  require_dtype(op, "bias", bias, wide_dtype(x));
  if (!window.defined()) return;
  require_shape(op, "window", window, Shape{x.size(0), weight.size(2) - 1, channels});
  require_dtype(op, "window", window, x.dtype());
}

}  // namespace

Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, Tensor* last_window) {
  check(x, weight, bias, window);
  Tensor y = empty_like(x), last;
  if (last_window != nullptr) last = empty(Shape{x.size(0), weight.size(2) - 1, x.size(2)}, x.dtype(), x.device());
  causal_conv1d_forward(x, weight, bias, window, y, last);
  const auto backward = [x = x.detach(), weight, bias, window = window.detach(),
                         wants_window = window.wants_grad()](std::span<const Tensor> dys) -> std::vector<Tensor> {
    const Tensor dy = dys[0].defined() ? dys[0] : zeros_like(x);
    const Tensor dlast = dys.size() > 1 ? dys[1] : Tensor{};
    GradSlot dweight = grad_slot(weight), dbias = grad_slot(bias);
    CausalConv1dGradients out{empty_like(x), dweight.tensor, dbias.tensor, wants_window ? empty_like(window) : Tensor{}, dweight.beta, dbias.beta};
    causal_conv1d_backward(x, weight, bias, window, dy, dlast, out);
    return {out.dx, dweight.done(), dbias.done(), out.dwindow};
  };
  if (last_window == nullptr) return record_many("causal_conv1d_silu", {x, weight, bias, window}, {y}, backward)[0];
  const std::vector<Tensor> outputs = record_many("causal_conv1d_silu", {x, weight, bias, window}, {y, last}, backward);
  *last_window = outputs[1];
  return outputs[0];
}

}  // namespace mblm
