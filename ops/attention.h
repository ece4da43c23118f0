#pragma once
#include <span>
#include "engine/autograd.h"
#include "ops/step_scalars.h"

namespace mblm {

struct AttentionOptions {
  std::int64_t heads = 1;
  bool causal = true;
  Tensor key_mask;                  // (B, T) uint8, nonzero: visible; undefined: all keys are visible
  float dropout = 0;                // probability of dropping an attention weight
  RandomStream random;              // random stream of the dropout
  std::int64_t first_sequence = 0;  // index of sequence 0 in the global batch
  template <class F> void visit_tensors(F&& f) const { f(key_mask), random.visit_tensors(f); }
};

// y[b, i, h] = sum_j softmax_j(q[b, i, h] . k[b, j, h] / sqrt(d)) v[b, j, h], over the visible keys j: key_mask[b, j] is set, and
// j <= i when causal. A query without a visible key attends to all T keys with equal weight; its dq and its share of dk are zero.
// qkv (B, T, 3 H d): q of all heads, then k, then v; y (B, T, H d).
// qkv, y and dqkv have one floating dtype. Scores and probabilities are float32 (float64 for float64); the product with v may
// round the probabilities to bfloat16 for bfloat16 input.
// Dropout p multiplies weight (b, h, i, j) by 0 or 1 / (1 - p), after the softmax. Its random element is
// (((first_sequence + b) H + h) T + i) T + j; backward draws the same mask.
// Memory: only a tile of scores exists at a time. Keeps qkv, y and one log-sum-exp per query and head.
// Throws ShapeError, DTypeError, ValueError (dropout outside [0, 1)). Dao et al., "FlashAttention", 2022.
Tensor attention(const Tensor& qkv, const AttentionOptions& options);

// log_sum_exp (B, H, T) float32 (float64 for float64 input).
extern Kernel<void(const Tensor& qkv, const AttentionOptions& options, Tensor& y, Tensor& log_sum_exp)> attention_forward;
extern Kernel<void(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, const AttentionOptions& options, Tensor& dqkv)>
    attention_backward;

// Keys and values of earlier tokens, for inference. Each of the B sequences has its own k and v (capacity, H d) in the dtype of qkv, with
// any capacity. lengths: rows in use per sequence.
struct KvCache {
  std::span<Tensor> k, v;
  std::span<const std::int64_t> lengths;
  template <class F> void visit_tensors(F&& f) const {
    for (const Tensor& rows : k) f(rows);
    for (const Tensor& rows : v) f(rows);
  }
};

// Attention of the next T tokens of sequences whose earlier tokens are in a cache. Writes k and v of token i of sequence b to row
// lengths[b] + i of the cache; query i sees rows 0 .. lengths[b] + i. The caller advances the lengths.
// qkv (B, T, 3 H d); y (B, T, H d). The bits of a token depend on its query and its keys alone: not on the other sequences, nor on T.
// Throws ShapeError, DTypeError; ValueError unless the options are causal without key_mask and dropout, and when lengths[b] + T exceeds
// a capacity; GradientError when qkv requires a gradient.
Tensor attention_cached(const Tensor& qkv, const AttentionOptions& options, const KvCache& cache);
extern Kernel<void(const Tensor& qkv, const AttentionOptions& options, const KvCache& cache, Tensor& y)> attention_cached_forward;

}  // namespace mblm
