#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = a + b, equal shapes. Float32 and bfloat16 mix freely, and y has the wider dtype; float64 goes only with float64.
// Keeps nothing; each input gets dy, in that input's dtype. Throws ShapeError, DTypeError.
Tensor add(const Tensor& a, const Tensor& b);
extern Kernel<void(const Tensor& a, const Tensor& b, Tensor& y)> add_forward;

}  // namespace mblm
