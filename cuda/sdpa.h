// Long attention behind two functions: cuDNN in the module (sdpa_cudnn.cpp), plain loops in the tests (tests/cuda/sdpa_stand_in.cpp).
#pragma once

#include <string>

#include "cuda/kernel.h"

namespace mblm::cuda {

// y[b, i, h] = sum_j softmax_j(q[b, i, h] . k[b, j, h] / sqrt(d)) v[b, j, h], over j <= i when causal, and its gradient, on the compute
// stream: ops/attention.h without key mask and dropout.
// qkv and dqkv (B, T, 3 H d), y and dy (B, T, H d) bfloat16, used in place; log_sum_exp (B, H, T) float32. Sums are float32. The backward
// adds in a fixed order.
// Both return false, with nothing started, where sdpa_takes is false, another tensor is not aligned to 16 bytes, cuDNN is missing, or it
// refuses the shape on this GPU; the caller then uses a kernel of its own. The two answers may differ: the tensors that they exchange have the same meaning as in those kernels.
bool sdpa_forward(const Tensor& qkv, std::int64_t heads, bool causal, Tensor& y, Tensor& log_sum_exp);
bool sdpa_backward(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, std::int64_t heads, bool causal, Tensor& dqkv);

// Why cuDNN does not take shapes of sdpa_takes: it is missing, or its reason for the last refusal. Empty if it took all so far.
std::string sdpa_problem();

inline constexpr std::int64_t shortest_sdpa = 128;   // tokens: below, the tiles of cuDNN's kernels are mostly empty
inline constexpr std::int64_t widest_sdpa_head = 128;
inline constexpr std::size_t sdpa_alignment = 16;    // bytes, of every tensor and every head
inline constexpr std::int64_t sdpa_head_unit = sdpa_alignment / sizeof(bfloat16);

// The shapes that are offered to cuDNN: bfloat16, T >= 128, d a multiple of 8 up to 128, qkv aligned to 16 bytes, B > 0.
inline bool sdpa_takes(const Tensor& qkv, std::int64_t heads) {
  const std::int64_t head_size = qkv.size(2) / (3 * heads);
  return qkv.dtype() == DType::BFloat16 && qkv.size(0) > 0 && qkv.size(1) >= shortest_sdpa && head_size % sdpa_head_unit == 0 &&
         head_size <= widest_sdpa_head && is_aligned(raw(qkv), sdpa_alignment);
}

// Whether the other tensors are aligned as well.
inline bool sdpa_aligned(std::initializer_list<const Tensor*> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const Tensor* x) { return is_aligned(raw(*x), sdpa_alignment); });
}

}  // namespace mblm::cuda
