#pragma once
#include "engine/autograd.h"

namespace mblm {

enum class RotaryPairs {
  Interleaved,  // (x_0, x_1), (x_2, x_3), ...
  HalfSplit,    // (x_i, x_{i + d/2})
};

// Rotates pair i of each head of token t by (first_position + t) * 10000^(-2i/d). Su et al., "RoFormer", 2021.
// x (B, T, C); the first `rotated_heads` groups of d = head_dim channels are rotated, the others are copied (so that one
// call serves the q and k of a packed q, k, v). head_dim even, rotated_heads * head_dim <= C. Angles are computed in
// float64. Keeps nothing: the backward is the rotation by the opposite angle.
Tensor rotary(const Tensor& x, RotaryPairs pairs, std::int64_t head_dim, std::int64_t rotated_heads, std::int64_t first_position = 0);

struct RotaryOptions {
  RotaryPairs pairs;
  std::int64_t head_dim, rotated_heads, first_position;
  bool inverse;
};
extern Kernel<void(const Tensor& x, const RotaryOptions& options, Tensor& y)> rotary_kernel;

}  // namespace mblm
