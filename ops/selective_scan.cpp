#include "ops/selective_scan.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const SelectiveScanInputs&, Tensor&, Tensor&, Tensor&)> selective_scan_forward{"selective_scan_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const SelectiveScanInputs&, const Tensor&, SelectiveScanGradients&)> selective_scan_backward{
    "selective_scan_backward"};

namespace {

void check_argument(const char* what, const Tensor& argument, const Shape& shape, DType dtype) {
  require_shape("selective_scan", what, argument, shape);
  require_dtype("selective_scan", what, argument, dtype);
}

void check(const SelectiveScanInputs& in) {
  require_floating("selective_scan", in.x);
  require<ShapeError>(in.x.rank() == 3, "selective_scan: expected x of shape (batch, tokens, channels), got ", in.x.shape());
  const std::int64_t batch = in.x.size(0), tokens = in.x.size(1), channels = in.x.size(2);
  require<ShapeError>(in.a_log.rank() == 2 && in.a_log.size(0) == channels && in.a_log.size(1) >= 1, "selective_scan: expected A_log of shape (",
                      channels, ", states), got ", in.a_log.shape());
  const std::int64_t states = in.a_log.size(1);
  require<ShapeError>(states <= selective_scan_max_states, "selective_scan: expected at most ", selective_scan_max_states, " states, got ", states);
  const DType dtype = in.x.dtype(), wide = wide_dtype(in.x);
  require_dtype("selective_scan", "A_log", in.a_log, wide);
  check_argument("dt", in.dt, in.x.shape(), wide);
  check_argument("b", in.b, Shape{batch, tokens, states}, dtype);
  check_argument("c", in.c, Shape{batch, tokens, states}, dtype);
  check_argument("d", in.d, Shape{channels}, wide);
  if (in.initial.defined()) check_argument("initial", in.initial, Shape{batch, channels, states}, wide);
}

Tensor empty_chunk_states(const SelectiveScanInputs& in) {
  const std::int64_t later_chunks = std::max<std::int64_t>(0, (in.x.size(1) - 1) / selective_scan_chunk);
  return empty(Shape{in.x.size(0), later_chunks, in.x.size(2), in.a_log.size(1)}, wide_dtype(in.x), in.x.device());
}

// Keeps A_log and D with their history, which leads to their gradient slots, and the other inputs detached.
BackwardFn backward_of(const SelectiveScanInputs& all, const Tensor& chunk_states) {
  const SelectiveScanInputs in{all.x.detach(), all.dt.detach(), all.a_log, all.b.detach(), all.c.detach(), all.d, all.initial.detach()};
  return [in, chunk_states, wants_initial = all.initial.wants_grad()](std::span<const Tensor> dys) -> std::vector<Tensor> {
    const Tensor dy = dys[0].defined() ? dys[0] : zeros_like(in.x);
    const Tensor dfinal = dys.size() > 1 ? dys[1] : Tensor{};
    GradSlot da_log = grad_slot(in.a_log), dd = grad_slot(in.d);
    SelectiveScanGradients out{.dx = empty_like(in.x),
                               .ddt = empty_like(in.dt),
                               .da_log = da_log.tensor,
                               .db = empty_like(in.b),
                               .dc = empty_like(in.c),
                               .dd = dd.tensor,
                               .dinitial = wants_initial ? empty_like(in.initial) : Tensor{},
                               .beta_a_log = da_log.beta,
                               .beta_d = dd.beta};
    selective_scan_backward(dy, dfinal, in, chunk_states, out);
    return {out.dx, out.ddt, da_log.done(), out.db, out.dc, dd.done(), out.dinitial};
  };
}

}  // namespace

Tensor selective_scan(const Tensor& x, const Tensor& dt, const Tensor& a_log, const Tensor& b, const Tensor& c, const Tensor& d,
                      const Tensor& initial, Tensor* final_state) {
  const SelectiveScanInputs in{x, dt, a_log, b, c, d, initial};
  check(in);
  Tensor y = empty_like(x), final_of, chunk_states;
  if (final_state != nullptr) final_of = empty(Shape{x.size(0), x.size(2), a_log.size(1)}, wide_dtype(x), x.device());
  if (any_wants_grad({x, dt, a_log, b, c, d, initial})) chunk_states = empty_chunk_states(in);
  selective_scan_forward(x, in, y, chunk_states, final_of);
  if (!any_wants_grad({x, dt, a_log, b, c, d, initial})) {
    if (final_state != nullptr) *final_state = final_of;
    return y;
  }
  const BackwardFn backward = backward_of(in, chunk_states);
  if (final_state == nullptr) return record_many("selective_scan", {x, dt, a_log, b, c, d, initial}, {y}, backward)[0];
  const std::vector<Tensor> outputs = record_many("selective_scan", {x, dt, a_log, b, c, d, initial}, {y, final_of}, backward);
  *final_state = outputs[1];
  return outputs[0];
}

}  // namespace mblm
