#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = silu(conv), conv[b, t, c] = bias[c] + sum_w weight[c, w] x[b, t - W + 1 + w, c]: depthwise convolution, channels last, with
// the SiLU that follows it in every use.
// x (B, T, C), weight (C, 1, W), bias (C); y (B, T, C). The W - 1 inputs before token 0 come from `window` (B, W - 1, C), zeros
// when undefined. `last_window`, when given, receives the last W - 1 rows of window and x joined, as the `window` of the next
// call; T may be less than W - 1.
// x, both windows and y have one floating dtype; weight and bias are float32 (float64 with float64).
// Keeps x, window, weight and bias; backward recomputes the convolution. Throws ShapeError, DTypeError.
Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window = {}, Tensor* last_window = nullptr);

// window and last_window may be undefined.
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, Tensor& y, Tensor& last_window)>
    causal_conv1d_forward;
// dweight = beta_weight dweight + gradient, and dbias likewise. window, dlast_window and dwindow may be undefined.
struct CausalConv1dGradients {
  Tensor dx, dweight, dbias, dwindow;
  float beta_weight = 0, beta_bias = 0;
  template <class F> void visit_tensors(F&& f) const { f(dx), f(dweight), f(dbias), f(dwindow); }
};
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, const Tensor& dy, const Tensor& dlast_window,
                   CausalConv1dGradients& out)>
    causal_conv1d_backward;

}  // namespace mblm
