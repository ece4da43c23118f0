#pragma once
#include "engine/autograd.h"

namespace mblm {

// The recurrence of Mamba-1. Gu and Dao, "Mamba", 2023.
//   h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,  A = -exp(A_log);   y_t = h_t C_t + D x_t
// x, dt (B, T, C), dt not negative; A_log (C, S), S up to selective_scan_max_states; b, c (B, T, S); d (C); h (B, C, S),
// `initial` undefined for zeros; y (B, T, C). `final_state`, when given, receives h after the last token.
// x, b, c and y of one floating dtype; dt, A_log, d and h float32 (float64 with float64). Each gradient has its input's dtype.
// Keeps the inputs and h at the start of each chunk of tokens but the first; backward computes the others again: memory
// O(T), never (B, T, C, S). Throws ShapeError, DTypeError.
Tensor selective_scan(const Tensor& x, const Tensor& dt, const Tensor& a_log, const Tensor& b, const Tensor& c, const Tensor& d,
                      const Tensor& initial = {}, Tensor* final_state = nullptr);

inline constexpr std::int64_t selective_scan_chunk = 64;        // tokens
inline constexpr std::int64_t selective_scan_max_states = 256;  // the largest S, so that kernels can hold h of a few channels on chip

struct SelectiveScanInputs {
  Tensor x, dt, a_log, b, c, d, initial;
  template <class F> void visit_tensors(F&& f) const { f(x), f(dt), f(a_log), f(b), f(c), f(d), f(initial); }
};
struct SelectiveScanGradients {
  Tensor dx, ddt, da_log, db, dc, dd, dinitial;
  float beta_a_log = 0, beta_d = 0;  // the weights' gradients are added to with beta 1
  template <class F> void visit_tensors(F&& f) const { f(dx), f(ddt), f(da_log), f(db), f(dc), f(dd), f(dinitial); }
};
// chunk_states (B, chunks - 1, C, S): h before each chunk but the first; undefined when no backward will come. final_state
// may be undefined.
extern Kernel<void(const Tensor& x, const SelectiveScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state)> selective_scan_forward;
// dfinal may be undefined; out.dinitial may be undefined.
extern Kernel<void(const Tensor& dy, const Tensor& dfinal, const SelectiveScanInputs& in, const Tensor& chunk_states, SelectiveScanGradients& out)>
    selective_scan_backward;

}  // namespace mblm
