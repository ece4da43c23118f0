#pragma once
#include "engine/kernel.h"

namespace mblm {

// y[i] = 1 if targets[i] = argmax_v logits[i, v], else 0. Of equal maxima the first counts.
// A row with NaN and a target outside [0, V) give 0.
// logits (..., V) float32 or float64; targets (...) int64; y (...) uint8. No gradient. Throws ShapeError, DTypeError.
Tensor argmax_matches(const Tensor& logits, const Tensor& targets);
extern Kernel<void(const Tensor& logits, const Tensor& targets, Tensor& y)> argmax_matches_forward;

}  // namespace mblm
