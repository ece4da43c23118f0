#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = x Phi(x), Phi the standard normal distribution function (exact form with erf). Any shape and floating dtype.
// Keeps x. Throws DTypeError. Hendrycks and Gimpel, 2016.
Tensor gelu(const Tensor& x);
extern Kernel<void(const Tensor& x, Tensor& y)> gelu_forward;
extern Kernel<void(const Tensor& x, const Tensor& dy, Tensor& dx)> gelu_backward;

}  // namespace mblm
