#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = the sum of x over one axis; a negative axis counts from the end. x (..., N, ...) floating; y has the dtype of x and its shape without
// the axis, or with size 1 there when keep_axis is set: the result then broadcasts with x. The sum over an axis of size 0 is 0.
// Sums are float32 (float64 for float64) and rounded once; their order depends on N and on the axes after it only. Keeps nothing;
// dx repeats dy. Throws ShapeError, DTypeError.
Tensor sum(const Tensor& x, int axis, bool keep_axis = false);
// The sum of all elements: y ().
Tensor sum(const Tensor& x);

// y = factor * sum over r of x[:, r]. x (O, R, D), y (O, 1, D); x and y are float32 or bfloat16 in any combination, or both float64.
extern Kernel<void(const Tensor& x, double factor, Tensor& y)> sum_forward;
// dx[:, r] = factor * dy for all r. dy (O, 1, D), dx (O, R, D) of one floating dtype.
extern Kernel<void(const Tensor& dy, double factor, Tensor& dx)> sum_backward;
// y = sum over r of u[:, r] v[:, r]: the gradient of a repeated factor. u, v (O, R, D) float32 or bfloat16 in any combination, y (O, 1, D)
// float32; or all float64.
extern Kernel<void(const Tensor& u, const Tensor& v, Tensor& y)> sum_products;

// factor * the sum over an axis, with the arguments of sum(); `op` is the name in messages.
Tensor scaled_sum(const char* op, const Tensor& x, int axis, bool keep_axis, double factor);

}  // namespace mblm
