#pragma once
#include <span>
#include "engine/autograd.h"

namespace mblm {

// Joins tensors (R_k, ...) along the first axis: y (sum of R_k, ...). All other sizes, the dtype and the device are equal; any dtype.
// Keeps nothing; the gradients are views of dy. Throws ShapeError, DTypeError, DeviceError.
Tensor concat_rows(std::span<const Tensor> xs);

}  // namespace mblm
