#pragma once
#include "engine/autograd.h"

namespace mblm {

// The second half of the channels moves one token later: y[b, t, :h] = x[b, t, :h], y[b, t, h:] = x[b, t - 1, h:], h = ceil(D / 2).
// x (B, T, D), T >= 1. `previous` (B, D - h) is what stands before token 0, undefined for zeros; `last`, when given,
// receives the second half of the last token, (B, D - h), to go on with. Peng et al., "RWKV", 2023. Keeps nothing.
// All of one floating dtype.
Tensor token_shift(const Tensor& x, const Tensor& previous = {}, Tensor* last = nullptr);

// last may be undefined.
extern Kernel<void(const Tensor& x, const Tensor& previous, Tensor& y, Tensor& last)> token_shift_forward;
// dlast and dprevious may be undefined.
extern Kernel<void(const Tensor& dy, const Tensor& dlast, Tensor& dx, Tensor& dprevious)> token_shift_backward;

}  // namespace mblm
