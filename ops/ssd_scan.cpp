#include "ops/ssd_scan.h"

#include "engine/inference.h"
#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const SsdScanInputs&, Tensor&, Tensor&, Tensor&)> ssd_scan_forward{"ssd_scan_forward"};
constinit Kernel<void(const Tensor&, const SsdScanInputs&, Tensor&, Tensor&)> ssd_recurrence_forward{"ssd_recurrence_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const SsdScanInputs&, const Tensor&, SsdScanGradients&)> ssd_scan_backward{"ssd_scan_backward"};

namespace {

// Checks all shapes and dtypes; returns the shape of the state, (B, H, p, S).
Shape checked_state_shape(const SsdScanInputs& in) {
  require_floating("ssd_scan", in.x);
  require<ShapeError>(in.x.rank() == 3 && in.x.size(1) >= 1, "ssd_scan: expected x of shape (B, T, H p) with T >= 1, got ", in.x.shape());
  require<ShapeError>(in.dt.defined() && in.dt.rank() == 3, "ssd_scan: expected dt of shape (B, T, H), got ", in.dt.shape());
  require<ShapeError>(in.b.defined() && in.b.rank() == 3 && in.b.size(2) >= 1, "ssd_scan: expected b of shape (B, T, S), got ", in.b.shape());
  const std::int64_t batch = in.x.size(0), tokens = in.x.size(1), heads = in.dt.size(2), states = in.b.size(2);
  require<ShapeError>(heads >= 1 && in.x.size(2) >= 1 && in.x.size(2) % heads == 0, "ssd_scan: expected a width divisible by ", heads,
                      " heads, got x of shape ", in.x.shape());
  const Shape state{batch, heads, in.x.size(2) / heads, states};
  require_shape("ssd_scan", "dt", in.dt, Shape{batch, tokens, heads});
  require_shape("ssd_scan", "A_log", in.a_log, Shape{heads});
  require_shape("ssd_scan", "b", in.b, Shape{batch, tokens, states});
  require_shape("ssd_scan", "c", in.c, Shape{batch, tokens, states});
  require_shape("ssd_scan", "d", in.d, Shape{heads});
  if (in.initial.defined()) require_shape("ssd_scan", "initial", in.initial, state);
  require_dtype("ssd_scan", "dt", in.dt, wide_dtype(in.x));
  require_dtype("ssd_scan", "A_log", in.a_log, wide_dtype(in.x));
  require_dtype("ssd_scan", "b", in.b, in.x.dtype());
  require_dtype("ssd_scan", "c", in.c, in.x.dtype());
  require_dtype("ssd_scan", "d", in.d, wide_dtype(in.x));
  if (in.initial.defined()) require_dtype("ssd_scan", "initial", in.initial, wide_dtype(in.x));
  return state;
}

std::vector<Tensor> gradients(const SsdScanInputs& in, bool wants_dinitial, const Tensor& chunk_states, std::span<const Tensor> dys) {
  const Tensor dy = dys[0].defined() ? dys[0] : zeros_like(in.x);  // undefined when only the final state is used
  const Tensor dfinal = dys.size() > 1 ? dys[1] : Tensor{};
  const GradSlot da_log = grad_slot(in.a_log), dd = grad_slot(in.d);
  SsdScanGradients out{empty_like(in.x), empty_like(in.dt), da_log.tensor, empty_like(in.b), empty_like(in.c), dd.tensor, {}, da_log.beta, dd.beta};
  if (wants_dinitial) out.dinitial = empty_like(in.initial);
  ssd_scan_backward(dy, dfinal, in, chunk_states, out);
  return {out.dx, out.ddt, da_log.done(), out.db, out.dc, dd.done(), out.dinitial};
}

}  // namespace

Tensor ssd_scan(const Tensor& x, const Tensor& dt, const Tensor& a_log, const Tensor& b, const Tensor& c, const Tensor& d, const Tensor& initial,
                Tensor* final_state) {
  const SsdScanInputs in{x.detach(), dt.detach(), a_log, b.detach(), c.detach(), d, initial.detach()};
  const Shape state = checked_state_shape(in);
  Tensor y = empty_like(x), chunk_states, last;
  if (any_wants_grad({x, dt, a_log, b, c, d, initial})) {
    const std::int64_t chunks = (x.size(1) + ssd_chunk - 1) / ssd_chunk;
    chunk_states = empty(Shape{state[0], chunks - 1, state[1], state[2], state[3]}, wide_dtype(x), x.device());
  }
  if (final_state != nullptr) last = empty(state, wide_dtype(x), x.device());
  if (is_inference()) {
    ssd_recurrence_forward(in.x, in, y, last);
    if (final_state != nullptr) *final_state = last;
    return y;
  }
  ssd_scan_forward(in.x, in, y, chunk_states, last);
  std::vector<Tensor> outputs{y};
  if (final_state != nullptr) outputs.push_back(last);
  const bool wants_dinitial = initial.wants_grad();
  outputs = record_many("ssd_scan", {x, dt, a_log, b, c, d, initial}, std::move(outputs),
                        [in, wants_dinitial, chunk_states](std::span<const Tensor> dys) { return gradients(in, wants_dinitial, chunk_states, dys); });
  if (final_state != nullptr) *final_state = outputs[1];
  return outputs[0];
}

}  // namespace mblm
