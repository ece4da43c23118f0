#pragma once
#include <span>
#include "engine/autograd.h"

namespace mblm {

// Stacks tensors along the first axis; all other sizes, dtypes and devices agree. Keeps nothing; gradients are views of dy.
// Throws ShapeError.
Tensor concat_rows(std::span<const Tensor> xs);

}  // namespace mblm
