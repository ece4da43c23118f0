#pragma once
#include "engine/autograd.h"

namespace mblm {

// The elements in another floating dtype; bfloat16 rounds to nearest even. Gives x itself where it has that dtype already.
// Keeps nothing; the gradient is cast back where it is not in the input's dtype yet. Its kernel is the engine's `convert`.
Tensor cast(const Tensor& x, DType dtype);

}  // namespace mblm
