#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = max(x, 0); NaN stays NaN. Any shape and floating dtype. Keeps y: dx = dy where y > 0, else 0. Throws DTypeError.
Tensor relu(const Tensor& x);
extern Kernel<void(const Tensor& x, Tensor& y)> relu_forward;
extern Kernel<void(const Tensor& y, const Tensor& dy, Tensor& dx)> relu_backward;

}  // namespace mblm
