#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = factor * x, any floating dtype. Keeps nothing.
Tensor scale(const Tensor& x, double factor);
extern Kernel<void(const Tensor& x, double factor, Tensor& y)> scale_forward;

}  // namespace mblm
