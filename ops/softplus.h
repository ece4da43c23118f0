#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = log(1 + exp(x + bias)), bias (D) added to every row of x (..., D); y (..., D).
// x and bias are float32 or bfloat16 in any combination, or both float64; y has the dtype of bias.
// Keeps x and bias; dx = dy sigmoid(x + bias). Throws ShapeError, DTypeError.
Tensor softplus(const Tensor& x, const Tensor& bias);
extern Kernel<void(const Tensor& x, const Tensor& bias, Tensor& y)> softplus_forward;
// Only dx, in the dtype of x; dbias is the column sums of dx (bias_gradient).
extern Kernel<void(const Tensor& x, const Tensor& bias, const Tensor& dy, Tensor& dx)> softplus_backward;

}  // namespace mblm
