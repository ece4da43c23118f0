#pragma once
#include "ops/broadcast.h"

namespace mblm {

// y = a / b, element by element, with the shapes and dtypes of add (ops/add.h): they are equal or broadcast. Division by zero gives
// infinity or NaN, as in C++.
// da = dy / b and db = -dy y / b, summed over the repeats of the input, in the dtype of that input. Keeps b, and y if b requires a
// gradient. Throws ShapeError, DTypeError.
Tensor divide(const Tensor& a, const Tensor& b);
extern PairKernel divide_forward;
// db = -dy y / b; equal shapes. y and dy have one dtype, b and db another: float32 or bfloat16, or all float64.
extern Kernel<void(const Tensor& y, const Tensor& b, const Tensor& dy, Tensor& db)> divide_backward;

}  // namespace mblm
