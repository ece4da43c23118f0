#pragma once
#include "engine/autograd.h"
#include "engine/random.h"

namespace mblm {

// Keys and values of the tokens so far, for inference. k and v are (B, capacity, H d); the first `length` rows count.
struct KvCache {
  Tensor k, v;
  std::int64_t length = 0;
};

struct AttentionOptions {
  std::int64_t heads = 1;
  bool causal = true;
  Tensor key_mask;           // (B, T) uint8, 1: attended to; undefined: all. A query without any key attends to all evenly
  float dropout = 0;         // probability of dropping an attention weight
  RandomKey random;          // of the dropout; element ((sequence * H + h) * T + i) * T_keys + j
  std::int64_t first_sequence = 0;  // index of sequence 0 in the global batch
};

// y[b, i, h] = sum_j softmax_j(q[b, i, h] . k[b, j, h] / sqrt(d)) v[b, j, h], over j <= i when causal.
// qkv (B, T, 3 H d): q of all heads, then k, then v; y (B, T, H d). Scores are never held for more than a tile.
// With a cache the new k and v are appended to it and the queries see all of it (query i is token length + i); then nothing
// is recorded, and key_mask and dropout must not be set. Throws ShapeError, ValueError when the cache is full.
// Keeps qkv, y and one log-sum-exp per query and head. Dao et al., "FlashAttention", 2022.
Tensor attention(const Tensor& qkv, const AttentionOptions& options, KvCache* cache = nullptr);

// log_sum_exp (B, H, T) float32 (float64 for float64 input).
extern Kernel<void(const Tensor& qkv, const AttentionOptions& options, Tensor& y, Tensor& log_sum_exp)> attention_forward;
extern Kernel<void(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, const AttentionOptions& options, Tensor& dqkv)>
    attention_backward;
// Appends k and v of qkv at row `length` of the caches and attends; no gradient.
extern Kernel<void(const Tensor& qkv, Tensor& k, Tensor& v, std::int64_t length, const AttentionOptions& options, Tensor& y)> attention_cached;

}  // namespace mblm
