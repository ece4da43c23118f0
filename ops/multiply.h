#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = a b, elementwise; equal shapes and one floating dtype. da = dy b, db = dy a.
// Keeps a if b requires a gradient, and b if a does. Throws ShapeError, DTypeError.
Tensor multiply(const Tensor& a, const Tensor& b);
extern Kernel<void(const Tensor& a, const Tensor& b, Tensor& y)> multiply_forward;

}  // namespace mblm
