#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = the mean of x over one axis: sum(x, axis) / N, with the arguments, dtypes and precision of sum (ops/sum.h) and its kernels.
// Keeps nothing; dx repeats dy / N. Throws DTypeError; ShapeError also for an axis of size 0, which has no mean.
Tensor mean(const Tensor& x, int axis, bool keep_axis = false);
// The mean of all elements: y ().
Tensor mean(const Tensor& x);

}  // namespace mblm
