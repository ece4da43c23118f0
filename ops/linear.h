#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

// y = x w^T + bias. x (..., K), w (N, K), bias (N) or undefined; y (..., N) in y_dtype, or in the dtype of x when unset.
// x, w and y are float32 or bfloat16 in any combination and bias is float32, or all are float64. The CPU has no product of a
// float32 w with a bfloat16 x or y: matmul_forward throws DTypeError.
// Products read x and dy in the dtype of w and sum in float32 (float64 for float64): a float32 x with a bfloat16 w is rounded once
// and kept as bfloat16. Keeps x in the dtype of w, and w.
// dx = dy w in the dtype of x; dw = dy^T x and dbias = column sums of dy, each in the dtype of its GradSlot.
// Throws ShapeError, DTypeError.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, std::optional<DType> y_dtype = {});

}  // namespace mblm
