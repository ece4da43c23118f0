#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = log(1 + exp(x + bias)), bias (D) broadcast over rows of x (..., D). Float32 and bfloat16 mix freely, and y has the bias's
// dtype; float64 goes only with float64. Keeps x and bias. Throws ShapeError, DTypeError.
Tensor softplus(const Tensor& x, const Tensor& bias);
extern Kernel<void(const Tensor& x, const Tensor& bias, Tensor& y)> softplus_forward;
// dx only, in x's dtype; dbias is the column sums of dx.
extern Kernel<void(const Tensor& x, const Tensor& bias, const Tensor& dy, Tensor& dx)> softplus_backward;

}  // namespace mblm
