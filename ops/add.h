#pragma once
#include "ops/broadcast.h"

namespace mblm {

// y = a + b, element by element. The shapes are equal or broadcast (broadcast_shape in ops/broadcast.h): a row (D) or a scalar () with
// (B, T, D), for example.
// a and b float32 or bfloat16 in any combination, or both float64; y has the wider dtype.
// Keeps nothing; the gradient of each input is dy, summed over the repeats of the input, in the dtype of that input.
// Throws ShapeError, DTypeError.
Tensor add(const Tensor& a, const Tensor& b);
extern PairKernel add_forward;

}  // namespace mblm
