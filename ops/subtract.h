#pragma once
#include "ops/broadcast.h"

namespace mblm {

// y = a - b, element by element, with the shapes and dtypes of add (ops/add.h): they are equal or broadcast.
// Keeps nothing; da = dy and db = -dy, summed over the repeats of the input, in the dtype of that input. Throws ShapeError, DTypeError.
Tensor subtract(const Tensor& a, const Tensor& b);
extern PairKernel subtract_forward;

}  // namespace mblm
