#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = x w^T + bias. x (..., K), w (N, K), bias (N) or undefined; y (..., N). Floating, equal dtypes.
// Keeps x and w; dx = dy w, dw = dy^T x, dbias = column sums of dy. Throws ShapeError, DTypeError.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// out = beta out + sum over rows of x (R, N); out (N).
extern Kernel<void(const Tensor& x, Tensor& out, float beta)> column_sums;

}  // namespace mblm
