#pragma once
#include "engine/autograd.h"

namespace mblm {

// y[..., j] = exp(x[..., j]) / sum_k exp(x[..., k]), over the last axis. x (..., D) floating with rank >= 1; y has its shape and dtype.
// Subtracts the largest element of the row first, so that large elements do not overflow. An element of -inf gives 0; a row without a finite
// element gives NaN. Arithmetic is float32 (float64 for float64). Keeps y: dx = y (dy - sum_k dy_k y_k). Throws ShapeError, DTypeError.
Tensor softmax(const Tensor& x);
extern Kernel<void(const Tensor& x, Tensor& y)> softmax_forward;
extern Kernel<void(const Tensor& y, const Tensor& dy, Tensor& dx)> softmax_backward;

}  // namespace mblm
