#include "ops/token_shift.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&, Tensor&)> token_shift_forward{"token_shift_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&, Tensor&)> token_shift_backward{"token_shift_backward"};

Tensor token_shift(const Tensor& x, const Tensor& previous, Tensor* last) {
  require_floating("token_shift", x);
  require<ShapeError>(x.rank() == 3 && x.size(1) >= 1, "token_shift: expected x of shape (B, T, D) with T >= 1, got ", x.shape());
  const Shape state{x.size(0), x.size(2) / 2};
  if (previous.defined()) {
    require_shape("token_shift", "previous", previous, state);
    require_dtype("token_shift", "previous", previous, x.dtype());
  }
  std::vector<Tensor> outputs{empty_like(x), last != nullptr ? empty(state, x.dtype(), x.device()) : Tensor{}};
  token_shift_forward(x, previous, outputs[0], outputs[1]);
  if (last == nullptr) outputs.pop_back();
  const bool wants_dprevious = previous.wants_grad();
  outputs = record_many("token_shift", {x, previous}, outputs,
                        [shape = x.shape(), state, wants_dprevious](std::span<const Tensor> dys) -> std::vector<Tensor> {
                          const Tensor dlast = dys.size() > 1 ? dys[1] : Tensor{};
                          const Tensor dy = dys[0].defined() ? dys[0] : zeros(shape, dlast.dtype(), dlast.device());
                          Tensor dx = empty(shape, dy.dtype(), dy.device()), dprevious;
                          if (wants_dprevious) dprevious = empty(state, dy.dtype(), dy.device());
                          token_shift_backward(dy, dlast, dx, dprevious);
                          return {dx, dprevious};
                        });
  if (last != nullptr) *last = outputs[1];
  return outputs[0];
}

}  // namespace mblm
