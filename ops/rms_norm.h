#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

enum class RmsForm {
  ClampedL2,   // y = x / max(||x||_2 / sqrt(D), eps) * weight      the Transformer's (eps 1e-8)
  MeanSquare,  // y = x / sqrt(mean(x^2) + eps) * weight             Mamba's (eps 1e-5)
};

// Root-mean-square norm over the last axis. Zhang and Sennrich, 2019.
// x (..., D) floating, weight (D) float32 (float64 with float64); y (..., D) of y_dtype, or of x's dtype when unset. Arithmetic is
// float32 (float64 for float64 x); dx has x's dtype. Keeps x and one number per row. Throws ShapeError, DTypeError.
Tensor rms_norm(const Tensor& x, const Tensor& weight, RmsForm form, double eps, std::optional<DType> y_dtype = {});

// rstd (rows) float32 (float64 for float64 x): what x is multiplied with. A clamped row (ClampedL2 at the bound) stores its rstd
// with a minus sign: there it does not depend on x.
extern Kernel<void(const Tensor& x, const Tensor& weight, RmsForm form, double eps, Tensor& y, Tensor& rstd)> rms_norm_forward;
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta)>
    rms_norm_backward;

}  // namespace mblm
