// Element-wise kernels that the engine itself uses; the backends implement them.
#pragma once

#include "engine/kernel.h"

namespace mblm {

// sum += x, equal shapes. Float32 and bfloat16 can be mixed and are added in float32; float64 requires float64.
// Backward uses it for tensors with several users.
extern Kernel<void(Tensor& sum, const Tensor& x)> accumulate;
// Writes one value to every element of a floating tensor.
extern Kernel<void(Tensor& x, double value)> fill;
// y = x in the dtype of y, both floating, equal shapes. Narrowing rounds to nearest even.
extern Kernel<void(const Tensor& x, Tensor& y)> convert;

}  // namespace mblm
