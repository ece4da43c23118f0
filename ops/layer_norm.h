#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

// y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis, var without Bessel's correction.
// x (..., D) floating, weight (D) and bias (D) float32 (float64 with float64); y (..., D) of y_dtype, or of x's dtype when unset.
// Arithmetic is float32 (float64 for float64 x); dx has x's dtype. Ba et al., "Layer Normalization", 2016.
// Keeps x, mean and 1/sqrt(var + eps) per row. Throws ShapeError, DTypeError.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps = 1e-5, std::optional<DType> y_dtype = {});

// statistics (rows, 2) float32 (float64 for float64 x): mean and inverse standard deviation.
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, Tensor& y, Tensor& statistics)> layer_norm_forward;
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& statistics, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta_weight,
                   Tensor& dbias, float beta_bias)>
    layer_norm_backward;

}  // namespace mblm
