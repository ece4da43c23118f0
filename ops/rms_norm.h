#pragma once
#include "engine/autograd.h"

namespace mblm {

enum class RmsForm {
  ClampedL2,   // y = x / max(||x||_2 / sqrt(D), eps) * weight      the Transformer's (eps 1e-8)
  MeanSquare,  // y = x / sqrt(mean(x^2) + eps) * weight             Mamba's (eps 1e-5)
};

// Root-mean-square norm over the last axis. x (..., D), weight (D); y (..., D). Zhang and Sennrich, 2019.
// Keeps x and one factor per row. Throws ShapeError, DTypeError.
Tensor rms_norm(const Tensor& x, const Tensor& weight, RmsForm form, double eps);

// factor (rows): what x is multiplied with. A clamped row (ClampedL2 at the bound) stores its factor with a minus sign:
// there the factor does not depend on x.
extern Kernel<void(const Tensor& x, const Tensor& weight, RmsForm form, double eps, Tensor& y, Tensor& factor)> rms_norm_forward;
extern Kernel<void(const Tensor& x, const Tensor& weight, const Tensor& factor, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta)>
    rms_norm_backward;

}  // namespace mblm
