#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

enum class RmsForm {
  ClampedL2,   // y = x / max(||x||_2 / sqrt(D), eps) * weight      Transformer (eps 1e-8)
  MeanSquare,  // y = x / sqrt(mean(x^2) + eps) * weight            Mamba (eps 1e-5)
};

// y = x * rstd * weight over the last axis, rstd as in RmsForm: root-mean-square norm.
// x (..., D) floating, weight (D) float32 (float64 with float64); y (..., D) in y_dtype, or in the dtype of x when unset.
// Arithmetic is float32 (float64 for float64); dx has the dtype of x. Keeps x and rstd of each row.
// Throws ShapeError, DTypeError. Zhang and Sennrich, 2019.
Tensor rms_norm(const Tensor& x, const Tensor& weight, RmsForm form, double eps, std::optional<DType> y_dtype = {});

// rstd (rows) float32 (float64 for float64): the factor of x. A clamped row (ClampedL2 with ||x||_2 / sqrt(D) < eps) stores -1 / eps:
// the sign marks that rstd does not depend on x.
extern Kernel<void(const Tensor& x, const Tensor& weight, RmsForm form, double eps, Tensor& y, Tensor& rstd)> rms_norm_forward;
// dx = r g dy - x r^3 <g dy, x> / D with g = weight, r = |rstd|, without the second term on a clamped row.
// dweight = beta dweight + gradient.
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta)>
    rms_norm_backward;

}  // namespace mblm
