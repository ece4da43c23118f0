#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = log(1 + exp(x + bias)), bias (D) broadcast over rows of x (..., D). Keeps x and bias.
Tensor softplus(const Tensor& x, const Tensor& bias);
extern Kernel<void(const Tensor& x, const Tensor& bias, Tensor& y)> softplus_forward;
// dx only; dbias is the column sums of dx.
extern Kernel<void(const Tensor& x, const Tensor& bias, const Tensor& dy, Tensor& dx)> softplus_backward;

}  // namespace mblm
