#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = a + b, elementwise; equal shapes.
// a and b float32 or bfloat16 in any combination, or both float64; y has the wider dtype.
// Keeps nothing; the gradient of each input is dy in the dtype of that input. Throws ShapeError, DTypeError.
Tensor add(const Tensor& a, const Tensor& b);
extern Kernel<void(const Tensor& a, const Tensor& b, Tensor& y)> add_forward;

}  // namespace mblm
