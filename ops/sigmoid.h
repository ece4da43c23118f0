#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = 1 / (1 + e^-x). Any shape and floating dtype. Keeps y: dx = dy y (1 - y). Throws DTypeError.
Tensor sigmoid(const Tensor& x);
extern Kernel<void(const Tensor& x, Tensor& y)> sigmoid_forward;
extern Kernel<void(const Tensor& y, const Tensor& dy, Tensor& dx)> sigmoid_backward;

}  // namespace mblm
