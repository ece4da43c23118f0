#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = factor * x, the factor rounded to the dtype of x. Any shape and floating dtype. Keeps nothing. Throws DTypeError.
Tensor scale(const Tensor& x, double factor);
extern Kernel<void(const Tensor& x, double factor, Tensor& y)> scale_forward;

}  // namespace mblm
