#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

// y = x w^T + bias. x (..., K), w (N, K), bias (N) or undefined; y (..., N) in y_dtype, or in the dtype of x when unset.
// x, w and y are float32 or bfloat16 in any combination and bias is float32, or all are float64. The CPU has no product of a
// float32 w with a bfloat16 x or y outside of inference: matmul_forward throws DTypeError.
// Products read x and dy in the dtype of w and sum in float32 (float64 for float64): a float32 x with a bfloat16 w is rounded once
// and kept as bfloat16. Keeps x in the dtype of w, and w.
// dx = dy w in the dtype of x; dw = dy^T x and dbias = column sums of dy, each in the dtype of its GradSlot.
// In an InferenceScope the bits of a row of y depend on that row of x, on w and on bias alone, and each combination of float32 and
// bfloat16 has a product.
// Throws ShapeError, DTypeError.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, std::optional<DType> y_dtype = {});

// The product of inference: y (M, N) = x (M, K) weight (N, K)^T + bias (N), bias may be undefined. dtypes as above; x is rounded to
// bfloat16 for a bfloat16 weight. The order of the sum of an output depends on K alone.
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y)> linear_inference_forward;

}  // namespace mblm
