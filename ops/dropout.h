#pragma once
#include "engine/autograd.h"
#include "ops/step_scalars.h"

namespace mblm {

// y = x * keep / (1 - p), keep one with probability 1 - p, a function of (stream, micro-step, first_element + index). Any shape.
// p in [0, 1); p = 0 gives x itself. Keeps nothing: backward draws the same mask, by the same kernel, and runs in the same
// micro-step. Throws ValueError.
Tensor dropout(const Tensor& x, double p, const RandomStream& stream, std::uint64_t first_element = 0);
extern Kernel<void(const Tensor& x, double p, const RandomStream& stream, std::uint64_t first_element, Tensor& y)> dropout_forward;

// True when element is kept; the same on every device.
MBLM_HOST_DEVICE inline bool dropout_keeps(RandomKey key, std::uint64_t element, std::uint32_t threshold) { return random_word(key, element) >= threshold; }
// p as a 32-bit threshold.
inline std::uint32_t dropout_threshold(double p) { return static_cast<std::uint32_t>(p * 4294967296.0); }

}  // namespace mblm
