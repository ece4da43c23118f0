// Shared by the CUDA kernels of attention: the problem as the kernels see it, which keys a query sees, and dropout.
#pragma once

#include "cuda/kernel.h"
#include "ops/attention.h"

namespace mblm::cuda {

// Queries, keys and values of all heads of all sequences, and the options. The channels of a head are contiguous, and head h starts
// h * width elements after head 0.
template <class T>
struct AttentionInput {
  const T *q, *k, *v;                    // token 0 of head 0 of sequence 0
  std::int64_t q_row, k_row;             // elements between tokens; k_row for k and v
  std::int64_t q_sequence, k_sequence;   // elements between sequences
  std::int64_t batch, heads;
  int queries, keys, width;
  float scale;                           // 1 / sqrt(width)
  bool causal;
  bool packs;                            // the channels can be accessed 16 bytes at a time
  const std::uint8_t* key_mask;          // (B, keys), or null
  const int* first_keys;                 // (B) first visible key, or `keys`; null without key_mask
  std::uint64_t seed;                    // stream of the dropout
  std::uint32_t site;
  const StepScalars* scalars;            // null: step 0
  std::uint32_t drop_below;              // threshold of dropout_keeps; 0: no dropout
  float keep_factor;                     // 1 / (1 - p)
  std::int64_t first_sequence;
};

// Rows of all heads of a result: y and dy (B, T, H d), or a third of dqkv (B, T, 3 H d).
template <class T>
struct AttentionRows {
  T* rows;                      // token 0 of head 0 of sequence 0
  std::int64_t row, sequence;   // elements between tokens and between sequences
};
template <class T>
struct AttentionGradients {
  AttentionRows<T> dq, dk, dv;
};

// The kernels. `log_sum_exp` and `delta` (B, H, T) float32; delta = sum over channels of dy y. The functions that are named by a length check
// nothing: the caller (attention.cu) has checked the length, and that the width is at most `widest_tile`.
inline constexpr int short_tokens = 16, middle_tokens = 64, widest_tile = 128;

void attention_forward_short(const AttentionInput<bfloat16>& in, const AttentionRows<bfloat16>& y, float* log_sum_exp);
void attention_backward_short(const AttentionInput<bfloat16>& in, const AttentionRows<const bfloat16>& dy, const float* log_sum_exp,
                              const AttentionGradients<bfloat16>& out);
void attention_forward_middle(const AttentionInput<bfloat16>& in, const AttentionRows<bfloat16>& y, float* log_sum_exp);
void attention_backward_middle(const AttentionInput<bfloat16>& in, const AttentionRows<const bfloat16>& dy, const float* log_sum_exp,
                               const AttentionGradients<bfloat16>& out);
void attention_forward_long(const AttentionInput<bfloat16>& in, const AttentionRows<bfloat16>& y, float* log_sum_exp);
void attention_backward_long(const AttentionInput<bfloat16>& in, const AttentionRows<const bfloat16>& dy, const float* log_sum_exp,
                             const float* delta, const AttentionGradients<bfloat16>& out);
// Any length, width and element type, without tensor cores.
template <class T>
void attention_forward_plain(const AttentionInput<T>& in, const AttentionRows<T>& y, float* log_sum_exp);
template <class T>
void attention_backward_plain(const AttentionInput<T>& in, const AttentionRows<const T>& dy, const float* log_sum_exp, const float* delta,
                              const AttentionGradients<T>& out);

// Tiles of the sequence, per pair of sequence and head.
template <class T>
unsigned attention_blocks(const AttentionInput<T>& in, std::int64_t per_pair) {
  return blocks_for(in.batch * in.heads * per_pair, 1);
}

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

inline constexpr float log2_e = 1.44269504f;

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }

// One head of one sequence.
template <class T>
struct AttentionHead {
  const T *q, *k, *v;
  std::int64_t pair, b, h;      // pair = b H + h
  int keys;
  int first_key;                // first visible key
  bool causal;
  const std::uint8_t* key_mask;  // (keys), or null

  __device__ __forceinline__ AttentionHead(const AttentionInput<T>& in, std::int64_t pair_index)
      : pair(pair_index), b(pair_index / in.heads), h(pair_index % in.heads), causal(in.causal) {
    q = in.q + b * in.q_sequence + h * in.width;
    k = in.k + b * in.k_sequence + h * in.width;
    v = in.v + b * in.k_sequence + h * in.width;
    keys = in.keys;
    key_mask = in.key_mask == nullptr ? nullptr : in.key_mask + b * in.keys;
    first_key = in.first_keys == nullptr ? 0 : in.first_keys[b];
  }
  // A query can see keys [0, causal_end). If the mask hides all of them, it sees all keys with equal weight.
  __device__ __forceinline__ int causal_end(int query) const {
    return causal && query + 1 < keys ? query + 1 : keys;
  }
  __device__ __forceinline__ bool sees_none(int query) const { return first_key >= causal_end(query); }
  // End of the keys that a query of [first, first + count) sees.
  __device__ __forceinline__ int key_end(int first, int count) const { return sees_none(first) ? keys : causal_end(first + count - 1); }
  // True if each query of [first, ...) sees all keys of [0, end).
  __device__ __forceinline__ bool sees_all(int first, int end) const { return key_mask == nullptr && end <= causal_end(first); }
  // The first query that sees a key of [first, ...), rounded down to a multiple of `unit`.
  __device__ __forceinline__ int query_begin(int first, int unit) const {
    return !causal || sees_none(0) ? 0 : first / unit * unit;
  }
  // The score of a query and a key after masking: -inf if the key is hidden or does not exist.
  __device__ __forceinline__ float masked(int query, int key, float score) const {
    if (key >= keys) return -INFINITY;
    if (key_mask == nullptr) return key < causal_end(query) ? score : -INFINITY;
    if (sees_none(query)) return 0;
    return key < causal_end(query) && key_mask[key] != 0 ? score : -INFINITY;
  }
};

// The dropout of one head: factors 0 or 1 / (1 - p).
struct AttentionDropout {
  RandomKey key;
  std::uint64_t first_element = 0;  // of query 0 and key 0
  std::uint64_t keys;
  std::uint32_t drop_below;
  float keep_factor;

  template <class T>
  __device__ __forceinline__ AttentionDropout(const AttentionInput<T>& in, std::int64_t pair)
      : key{in.seed, in.site, 0}, keys(static_cast<std::uint64_t>(in.keys)), drop_below(in.drop_below), keep_factor(in.keep_factor) {
    if (drop_below == 0) return;
    if (in.scalars != nullptr) key.step = static_cast<std::uint32_t>(static_cast<std::uint64_t>(in.scalars->micro_step));
    first_element = static_cast<std::uint64_t>(in.first_sequence * in.heads + pair) * static_cast<std::uint64_t>(in.queries) * keys;
  }
  __device__ __forceinline__ bool active() const { return drop_below > 0; }
  __device__ __forceinline__ std::uint64_t element(int query, int k) const {
    return first_element + static_cast<std::uint64_t>(query) * keys + static_cast<std::uint64_t>(k);
  }
  // An indexed read of the words would put them into local memory.
  __device__ __forceinline__ static std::uint32_t word(const RandomWords& words, std::uint64_t i) {
    const std::uint32_t low = i % 2 == 0 ? words.word[0] : words.word[1], high = i % 2 == 0 ? words.word[2] : words.word[3];
    return i % 4 < 2 ? low : high;
  }
  __device__ __forceinline__ float factor(int query, int k) const {
    const std::uint64_t e = element(query, k);
    return word(philox(key, e / 4), e) >= drop_below ? keep_factor : 0.0f;
  }
  // Multiplies the weights of keys k and k + 1, which often share a block of four random words.
  __device__ __forceinline__ void multiply_pair(int query, int k, float& first, float& second) const {
    const std::uint64_t e = element(query, k);
    RandomWords words = philox(key, e / 4);
    first *= word(words, e) >= drop_below ? keep_factor : 0.0f;
    if (e % 4 == 3) words = philox(key, e / 4 + 1);
    second *= word(words, e + 1) >= drop_below ? keep_factor : 0.0f;
  }
};

// Sum and maximum over the 4 lanes of a row.
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(all_lanes, x, 1);
  return x + __shfl_xor_sync(all_lanes, x, 2);
}
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(all_lanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(all_lanes, x, 2));
}

#endif

}  // namespace mblm::cuda
