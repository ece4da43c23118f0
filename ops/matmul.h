#pragma once
#include "engine/autograd.h"

namespace mblm {

// c = op(a) op(b), where op transposes the last two axes when its flag is set.
// a (..., M, K) or (..., K, M) transposed, b (..., K, N) or (..., N, K) transposed, with equal leading axes, or without
// leading axes on either side. Result (..., M, N). Any floating dtype, equal on both sides; sums are float32 for bfloat16.
// Keeps a and b. Throws ShapeError, DTypeError.
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a = false, bool transpose_b = false);

struct MatmulFlags {
  bool transpose_a = false, transpose_b = false;
  float beta = 0;  // c = op(a) op(b) + bias + beta c
};
// a and b as above with leading axes flattened to one batch axis or without one; bias (N) or undefined.
extern Kernel<void(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags)> matmul_forward;

}  // namespace mblm
