#pragma once
#include "engine/autograd.h"

namespace mblm {

enum class RotaryPairs {
  Interleaved,  // (x_0, x_1), (x_2, x_3), ...
  HalfSplit,    // (x_i, x_{i + d/2})
};

// Rotates pair i of each head of token t of sequence b by (positions[b] + t) * inverse_frequencies[i]. Su et al., "RoFormer", 2021.
// x (B, T, C); inverse_frequencies (d/2) float64; positions (B) int64, undefined for zeros. The first `rotated_heads` groups of d
// channels are rotated, the others are copied (so that one call serves the q and k of a packed q, k, v); rotated_heads * d <= C.
// y has the dtype of x; angles are computed in float64. Keeps nothing: the backward is the rotation by the opposite angle.
// Throws ShapeError, DTypeError.
Tensor rotary(const Tensor& x, const Tensor& inverse_frequencies, RotaryPairs pairs, std::int64_t rotated_heads, const Tensor& positions = {});

// 10000^(-2i/d) for i < d/2, float64, on the CPU. head_dim d even and at least 2: throws ShapeError.
Tensor rotary_frequencies(std::int64_t head_dim);

struct RotaryOptions {
  RotaryPairs pairs;
  std::int64_t rotated_heads;
  bool inverse;
};
extern Kernel<void(const Tensor& x, const Tensor& inverse_frequencies, const Tensor& positions, const RotaryOptions& options, Tensor& y)>
    rotary_forward;

}  // namespace mblm
