#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = x w^T + bias. x (..., K), w (N, K), bias (N) or undefined; y (..., N). Floating, equal dtypes.
// Keeps x and w; dx = dy w, dw = dy^T x, dbias = column sums of dy. Throws ShapeError, DTypeError.
// Mixed: a bfloat16 w with a float32 x and bias. x and dy are rounded to bfloat16 once for their products, whose sums are
// float32, and y, dx, dw and dbias are float32; what is kept of x is bfloat16.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// out = beta out + sum over rows of x (R, N); out (N).
extern Kernel<void(const Tensor& x, Tensor& out, float beta)> column_sums;

}  // namespace mblm
