#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = silu(conv): conv[b, t, c] = bias[c] + sum_w weight[c, w] x[b, t - W + 1 + w, c]; what lies before the sequence comes
// from `window` (B, W - 1, C), zeros when undefined. x (B, T, C), weight (C, 1, W), bias (C); y (B, T, C).
// `last_window`, when given, receives the last W - 1 inputs (window and x together) to go on with; T may be
// shorter than that.
// x, both windows and y of one floating dtype; weight and bias float32 (float64 with float64).
// Depthwise, channels last, SiLU included (the only use). Keeps x and window; the sum is computed again in backward.
// Throws ShapeError, DTypeError.
Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window = {}, Tensor* last_window = nullptr);

// last_window may be undefined.
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, Tensor& y, Tensor& last_window)>
    causal_conv1d_forward;
// Of the gradients, dlast_window and dwindow may be undefined; dweight and dbias are multiplied by beta and added to.
struct CausalConv1dGradients {
  Tensor dx, dweight, dbias, dwindow;
  float beta_weight = 0, beta_bias = 0;
  template <class F> void visit_tensors(F&& f) const { f(dx), f(dweight), f(dbias), f(dwindow); }
};
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, const Tensor& dy, const Tensor& dlast_window,
                   CausalConv1dGradients& out)>
    causal_conv1d_backward;

}  // namespace mblm
