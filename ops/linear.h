#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

// y = x w^T + bias. x (..., K), w (N, K), bias (N) or undefined; y (..., N) of y_dtype, or of x's dtype when unset.
// x and w floating, the weight's dtype independent of the input's; bias float32; float64 goes only with float64.
// Products read x and dy in the weight's dtype and sum in float32 (float64): a float32 x with a bfloat16 weight is rounded once
// and kept as bfloat16. Keeps x and w; dx = dy w in x's dtype, dw = dy^T x in the weight's, dbias = column sums of dy.
// Throws ShapeError, DTypeError.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, std::optional<DType> y_dtype = {});

}  // namespace mblm
