#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

// y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis, var without Bessel's correction.
// x (..., D) floating, weight (D) and bias (D) float32 (float64 with float64); y (..., D) in y_dtype, or in the dtype of x when unset.
// Arithmetic is float32 (float64 for float64); dx has the dtype of x. Keeps x, and mean and 1 / sqrt(var + eps) of each row.
// Throws ShapeError, DTypeError. Ba et al., "Layer Normalization", 2016.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps = 1e-5, std::optional<DType> y_dtype = {});

// statistics (rows, 2) float32 (float64 for float64): mean and 1 / sqrt(var + eps).
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, Tensor& y, Tensor& statistics)> layer_norm_forward;
// dweight = beta_weight dweight + gradient, and dbias likewise.
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& statistics, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta_weight,
                   Tensor& dbias, float beta_bias)>
    layer_norm_backward;

}  // namespace mblm
