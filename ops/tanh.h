#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = (e^x - e^-x) / (e^x + e^-x). Any shape and floating dtype. Keeps y: dx = dy (1 - y^2). Throws DTypeError.
Tensor tanh(const Tensor& x);
extern Kernel<void(const Tensor& x, Tensor& y)> tanh_forward;
extern Kernel<void(const Tensor& y, const Tensor& dy, Tensor& dx)> tanh_backward;

}  // namespace mblm
