#pragma once
#include "engine/autograd.h"
#include "ops/step_scalars.h"

namespace mblm {

struct AttentionOptions {
  std::int64_t heads = 1;
  bool causal = true;
  Tensor key_mask;           // (B, T) uint8, 1: attended to; undefined: all. A query without any key attends to all evenly
  float dropout = 0;         // probability of dropping an attention weight
  RandomStream random;       // of the dropout; element ((sequence * H + h) * T + i) * T_keys + j
  std::int64_t first_sequence = 0;  // index of sequence 0 in the global batch
  template <class F> void visit_tensors(F&& f) const { f(key_mask), random.visit_tensors(f); }
};

// y[b, i, h] = sum_j softmax_j(q[b, i, h] . k[b, j, h] / sqrt(d)) v[b, j, h], over j <= i when causal.
// qkv (B, T, 3 H d): q of all heads, then k, then v; y (B, T, H d). Scores are never held for more than a tile.
// Keeps qkv, y and one log-sum-exp per query and head. Dao et al., "FlashAttention", 2022. Throws ShapeError, DTypeError, ValueError.
// qkv, y and dqkv have one dtype; probabilities are float32 (float64 for float64), or bfloat16 before the product with v.
Tensor attention(const Tensor& qkv, const AttentionOptions& options);

// log_sum_exp (B, H, T) float32 (float64 for float64 input).
extern Kernel<void(const Tensor& qkv, const AttentionOptions& options, Tensor& y, Tensor& log_sum_exp)> attention_forward;
extern Kernel<void(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, const AttentionOptions& options, Tensor& dqkv)>
    attention_backward;

// Keys and values of earlier tokens, for inference. k and v (B, capacity, H d), of the dtype of qkv; lengths (B) int64: the rows
// of each sequence that count. `longest` is known to the host: no length exceeds it.
struct KvCache {
  Tensor k, v, lengths;
  std::int64_t longest = 0;
};

// The next T tokens of sequences whose earlier tokens are in a cache: writes k and v of token i of sequence b to row
// lengths[b] + i of the cache, and query i sees rows 0 .. lengths[b] + i. The caller advances the lengths. Always causal.
// No gradient; key_mask and dropout must not be set. Throws ShapeError, DTypeError, ValueError when longest + T exceeds the capacity.
Tensor attention_cached(const Tensor& qkv, const AttentionOptions& options, const KvCache& cache);
extern Kernel<void(const Tensor& qkv, const Tensor& lengths, const AttentionOptions& options, Tensor& k, Tensor& v, Tensor& y)>
    attention_cached_forward;

}  // namespace mblm
