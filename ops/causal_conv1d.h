#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = silu(conv): conv[b, t, c] = bias[c] + sum_w weight[c, w] x[b, t - W + 1 + w, c]; what lies before the sequence comes
// from `window` (B, W - 1, C), zeros when undefined. x (B, T, C), weight (C, 1, W), bias (C); y (B, T, C).
// `last_window`, when given, receives the last W - 1 inputs (window and x together) to go on with.
// Depthwise, channels last, SiLU included (the only use). Keeps x and window; the sum is computed again in backward.
Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window = {}, Tensor* last_window = nullptr);

extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, Tensor& y)> causal_conv1d_forward;
// dwindow may be undefined.
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, const Tensor& dy, Tensor& dx, Tensor& dweight,
                   float beta_weight, Tensor& dbias, float beta_bias, Tensor& dwindow)>
    causal_conv1d_backward;

}  // namespace mblm
