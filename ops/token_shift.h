#pragma once
#include "engine/autograd.h"

namespace mblm {

// y[b, t, :h] = x[b, t, :h], y[b, t, h:] = x[b, t - 1, h:], h = ceil(D / 2): shifts the second half of the channels by one token.
// x and y (B, T, D), T >= 1. `previous` (B, D - h) replaces x[b, -1, h:], zeros when undefined. `last`, when given, receives
// x[b, T - 1, h:] (B, D - h), as `previous` of the next call. One floating dtype.
// Keeps nothing. Throws ShapeError, DTypeError. Peng et al., "RWKV", 2023.
Tensor token_shift(const Tensor& x, const Tensor& previous = {}, Tensor* last = nullptr);

// previous and last may be undefined.
extern Kernel<void(const Tensor& x, const Tensor& previous, Tensor& y, Tensor& last)> token_shift_forward;
// dlast and dprevious may be undefined.
extern Kernel<void(const Tensor& dy, const Tensor& dlast, Tensor& dx, Tensor& dprevious)> token_shift_backward;

}  // namespace mblm
