#pragma once
#include "engine/autograd.h"

namespace mblm {

// c = op(a) op(b), where op transposes the last two axes when its flag is set.
// a (..., M, K), or (..., K, M) when transposed; b (..., K, N), or (..., N, K) when transposed; c (..., M, N). Leading axes are
// equal, or one input (or both) is a plain matrix, which every matrix of the other input is multiplied with.
// One floating dtype for a, b and c; sums are float32 for bfloat16. Keeps a and b. Throws ShapeError, DTypeError.
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a = false, bool transpose_b = false);

struct MatmulFlags {
  bool transpose_a = false, transpose_b = false;
  float beta = 0;  // c = op(a) op(b) + bias + beta c
};
// a, b and c as above, with the leading axes flattened to one batch axis or without leading axes; bias (N) or undefined. beta = 0
// does not read c. a and b have one dtype. For bfloat16, c and bias are each float32 or bfloat16; otherwise they have the dtype of a.
// A device may round the bias to the dtype of c, as the weight is rounded.
extern Kernel<void(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags)> matmul_forward;

}  // namespace mblm
