#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = a + b, equal shapes and dtypes. Keeps nothing; both inputs get dy itself.
Tensor add(const Tensor& a, const Tensor& b);
extern Kernel<void(const Tensor& a, const Tensor& b, Tensor& y)> add_forward;

}  // namespace mblm
