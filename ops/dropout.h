#pragma once
#include "engine/autograd.h"
#include "ops/step_scalars.h"

namespace mblm {

// y = x * keep / (1 - p), keep = 1 with probability 1 - p, else 0. Any shape and floating dtype; p in [0, 1); p = 0 returns x itself.
// keep is a function of (stream, micro-step, first_element + index). Keeps nothing: backward draws the same mask with the same
// kernel, so it must run in the same micro-step. Throws DTypeError, ValueError.
Tensor dropout(const Tensor& x, double p, const RandomStream& stream, std::uint64_t first_element = 0);
extern Kernel<void(const Tensor& x, double p, const RandomStream& stream, std::uint64_t first_element, Tensor& y)> dropout_forward;

// True when the element is kept; the same on every device.
MBLM_HOST_DEVICE inline bool dropout_keeps(RandomKey key, std::uint64_t element, std::uint32_t threshold) { return random_word(key, element) >= threshold; }
// The threshold of dropout_keeps: p 2^32, rounded down.
inline std::uint32_t dropout_threshold(double p) { return static_cast<std::uint32_t>(p * 4294967296.0); }

}  // namespace mblm
