// Element-wise kernels that the engine itself needs; the backends fill them.
#pragma once

#include "engine/kernel.h"

namespace mblm {

// sum += x, equal shapes. Float32 and bfloat16 mix freely, with additions in float32; float64 goes only with float64.
// Backward uses it where a tensor has several users.
extern Kernel<void(Tensor& sum, const Tensor& x)> accumulate;
// Writes one value to every element of a floating tensor.
extern Kernel<void(Tensor& x, double value)> fill;
// y = x in the dtype of y, both floating, equal shapes. Narrowing rounds to nearest even.
extern Kernel<void(const Tensor& x, Tensor& y)> convert;

}  // namespace mblm
