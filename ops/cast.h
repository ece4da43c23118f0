#pragma once
#include "engine/autograd.h"

namespace mblm {

// The elements in another floating dtype; bfloat16 rounds to nearest even. Keeps nothing; the gradient is cast back
// where it is not in the input's dtype yet.
Tensor cast(const Tensor& x, DType dtype);
extern Kernel<void(const Tensor& x, Tensor& y)> cast_kernel;

// y = factor * x.
Tensor scale(const Tensor& x, double factor);
extern Kernel<void(const Tensor& x, double factor, Tensor& y)> scale_kernel;

}  // namespace mblm
