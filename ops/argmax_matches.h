#pragma once
#include "engine/kernel.h"

namespace mblm {

// y[i] = 1 where logits[i, targets[i]] is the largest of its row, the first of equals, and 0 elsewhere: in a row with NaN, and
// for a target outside [0, V). logits (..., V) float32 or float64; targets (...) int64; y (...) uint8. Has no gradient.
// Throws ShapeError, DTypeError.
Tensor argmax_matches(const Tensor& logits, const Tensor& targets);
extern Kernel<void(const Tensor& logits, const Tensor& targets, Tensor& y)> argmax_matches_forward;

}  // namespace mblm
