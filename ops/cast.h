#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = x in another floating dtype; any shape. Narrowing rounds to nearest even. Returns x itself if it already has that dtype.
// Keeps nothing; the gradient is cast to the dtype of x. The kernel is `convert` of engine/elementwise.h. Throws DTypeError.
Tensor cast(const Tensor& x, DType dtype);

}  // namespace mblm
