#pragma once
#include "engine/autograd.h"

namespace mblm {

enum class RotaryPairs {
  Interleaved,  // (x_0, x_1), (x_2, x_3), ...
  HalfSplit,    // (x_i, x_{i + d/2})
};

// (y_a, y_b) = (x_a cos w - x_b sin w, x_b cos w + x_a sin w), w = (positions[b] + t) * inverse_frequencies[i], for pair i of each
// head of token t of sequence b.
// x and y (B, T, C) of one floating dtype; inverse_frequencies (d/2) float64; positions (B) int64, undefined for zeros. The first
// `rotated_heads` groups of d channels are rotated and the other channels are copied, so that one call rotates q and k of a packed
// q, k, v; rotated_heads * d <= C. Angles are computed in float64. Keeps nothing: backward rotates dy by the opposite angles.
// Overwrites x, instead of a new tensor, when x is passed by std::move and nothing else holds its elements; backward does so with dy.
// Throws ShapeError, DTypeError. Su et al., "RoFormer", 2021.
Tensor rotary(Tensor x, const Tensor& inverse_frequencies, RotaryPairs pairs, std::int64_t rotated_heads, const Tensor& positions = {});

// 10000^(-2i/d) for i < d/2, d = head_dim: (d/2) float64, on the CPU. Throws ShapeError unless d is even and at least 2.
Tensor rotary_frequencies(std::int64_t head_dim);

// y may be x.
struct RotaryOptions {
  RotaryPairs pairs;
  std::int64_t rotated_heads;
  bool inverse;  // rotate by the opposite angles
};
extern Kernel<void(const Tensor& x, const Tensor& inverse_frequencies, const Tensor& positions, const RotaryOptions& options, Tensor& y)>
    rotary_forward;

}  // namespace mblm
