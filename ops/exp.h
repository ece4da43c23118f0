#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = e^x. Any shape and floating dtype. In float32 and bfloat16, y is 0 below x = -87 and infinity above 88.7. Keeps y: dx = dy y, by the
// kernel of multiply. Throws DTypeError.
Tensor exp(const Tensor& x);
extern Kernel<void(const Tensor& x, Tensor& y)> exp_forward;

}  // namespace mblm
