#pragma once
#include "ops/broadcast.h"

namespace mblm {

// y = a b, element by element, with the shapes and dtypes of add (ops/add.h): they are equal or broadcast.
// da = dy b and db = dy a, summed over the repeats of the input, in the dtype of that input. Keeps a if b requires a gradient, and b if a
// does. Throws ShapeError, DTypeError.
Tensor multiply(const Tensor& a, const Tensor& b);
extern PairKernel multiply_forward;

}  // namespace mblm
