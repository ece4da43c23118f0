#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = a b, elementwise, equal shapes and dtypes. Keeps a for db = dy a, and b for da = dy b. Throws ShapeError, DTypeError.
Tensor multiply(const Tensor& a, const Tensor& b);
extern Kernel<void(const Tensor& a, const Tensor& b, Tensor& y)> multiply_forward;

}  // namespace mblm
