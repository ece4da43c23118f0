#pragma once
#include "engine/autograd.h"

namespace mblm {

// The recurrence of Mamba-2, for each head of width p:
//   a_t = exp(-exp(A_log) dt_t);   h_t = a_t h_{t-1} + dt_t x_t (outer) B_t;   y_t = h_t C_t + D x_t
// x (B, T, H p), T >= 1; dt (B, T, H), after softplus; A_log (H); b, c (B, T, S), shared by the heads; d (H); y (B, T, H p).
// h (B, H, p, S) starts from `initial`, zeros when undefined; `final_state`, when given, receives h after the last token.
// x, b, c and y have one floating dtype; dt, A_log, d and h are float32 (float64 with float64). Each gradient has the dtype of its
// input.
// Works on chunks of tokens: matrix products within a chunk (quadratic form), the state between chunks. Keeps the inputs, and h at
// the start of each chunk except the first: memory O(T). In an InferenceScope it works token by token: the bits of a token depend on
// its inputs and on h before it, not on how the tokens are split into calls. Throws ShapeError, DTypeError.
// Dao and Gu, "Transformers are SSMs", 2024.
Tensor ssd_scan(const Tensor& x, const Tensor& dt, const Tensor& a_log, const Tensor& b, const Tensor& c, const Tensor& d, const Tensor& initial = {},
                Tensor* final_state = nullptr);

inline constexpr std::int64_t ssd_chunk = 64;  // tokens

struct SsdScanInputs {
  Tensor x, dt, a_log, b, c, d, initial;
  template <class F> void visit_tensors(F&& f) const { f(x), f(dt), f(a_log), f(b), f(c), f(d), f(initial); }
};
struct SsdScanGradients {
  Tensor dx, ddt, da_log, db, dc, dd, dinitial;  // dinitial is undefined when it is not needed
  float beta_a_log = 0, beta_d = 0;              // da_log = beta_a_log da_log + gradient, and dd likewise
  template <class F> void visit_tensors(F&& f) const { f(dx), f(ddt), f(da_log), f(db), f(dc), f(dd), f(dinitial); }
};
// chunk_states (B, chunks - 1, H, p, S): h before each chunk except the first, which starts from `initial`; undefined when no
// gradient is needed. in.initial and final_state may be undefined.
extern Kernel<void(const Tensor& x, const SsdScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state)> ssd_scan_forward;
// The recurrence of inference, token by token. in.initial and final_state may be undefined.
extern Kernel<void(const Tensor& x, const SsdScanInputs& in, Tensor& y, Tensor& final_state)> ssd_recurrence_forward;
// dfinal and out.dinitial may be undefined.
extern Kernel<void(const Tensor& dy, const Tensor& dfinal, const SsdScanInputs& in, const Tensor& chunk_states, SsdScanGradients& out)>
    ssd_scan_backward;

}  // namespace mblm
