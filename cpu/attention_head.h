// Shared by the two attention kernels of the CPU, for short and for long sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "engine/random.h"

namespace mblm {

// One head of one sequence: the addresses of its rows, and the keys that a query sees.
template <class T>
struct AttentionHead {
  const T *q, *k, *v;               // first rows
  std::int64_t q_stride, k_stride;  // elements between tokens; k_stride for k and v
  std::int64_t queries, keys, width;
  std::int64_t offset;  // query i is token offset + i
  T scale;
  bool causal;
  const std::uint8_t* key_mask;  // (keys), or null
  std::int64_t first_key;        // the first key that the mask does not hide; `keys` when it hides all
  RandomKey random;              // random stream of the dropout
  std::uint64_t first_element;   // random element of query 0 and key 0
  std::uint32_t drop_below;      // weights whose random word is below are dropped; 0: no dropout
  T keep_factor;                 // 1 / (1 - p)

  // A query can see keys [0, causal_end). If the mask hides all of them, it sees all keys with equal weight.
  std::int64_t causal_end(std::int64_t query) const { return causal ? std::min(keys, offset + query + 1) : keys; }
  bool sees_none(std::int64_t query) const { return first_key >= causal_end(query); }
  std::int64_t key_end(std::int64_t query) const { return sees_none(query) ? keys : causal_end(query); }
  // End of the keys that a query of [first, first + count) sees.
  std::int64_t keys_needed(std::int64_t first, std::int64_t count) const { return sees_none(first) ? keys : key_end(first + count - 1); }
};

// Masks the scores s of one query and keys [first, first + count): -inf for hidden keys; all 0 if the query has no visible key.
template <class T>
void mask_scores(const AttentionHead<T>& head, std::int64_t query, std::int64_t first, std::int64_t count, T* s) {
  if (head.sees_none(query)) {
    std::fill_n(s, count, T(0));
    return;
  }
  const std::int64_t visible = std::clamp<std::int64_t>(head.causal_end(query) - first, 0, count);
  std::fill(s + visible, s + count, -std::numeric_limits<T>::infinity());
  if (head.key_mask == nullptr) return;
  for (std::int64_t j = 0; j < visible; ++j)
    if (head.key_mask[first + j] == 0) s[j] = -std::numeric_limits<T>::infinity();
}

// Dropout factors of the weights of one query and keys [first, first + count): 0 or 1 / (1 - p). Four elements share a block of
// random words.
template <class T>
void keep_factors(const AttentionHead<T>& head, std::int64_t query, std::int64_t first, std::int64_t count, T* factors) {
  const std::uint64_t start = head.first_element + static_cast<std::uint64_t>(query * head.keys + first);
  for (std::int64_t j = 0; j < count;) {
    const std::uint64_t element = start + static_cast<std::uint64_t>(j);
    const RandomWords words = philox(head.random, element / 4);
    for (std::size_t word = element % 4; word < 4 && j < count; ++word, ++j) factors[j] = words[word] >= head.drop_below ? head.keep_factor : T(0);
  }
}

// Rows of one head in a tensor, `stride` elements apart.
template <class T>
struct HeadRows {
  T* rows;
  std::int64_t stride;
  T* operator[](std::int64_t row) const { return rows + row * stride; }
};

template <class T>
struct HeadGradients {
  HeadRows<T> dq, dk, dv;
};

// Sequences of up to this many keys use the short kernel: a head at a time, with all its scores on the stack. Measured with 64
// channels: 20 % faster than the long kernel at 33 tokens, 10 % slower at 64.
inline constexpr std::int64_t short_keys = 48;

// log_sum_exp has one element per query.
template <class T>
void short_attention_forward(const AttentionHead<T>& head, HeadRows<T> y, T* log_sum_exp);
template <class T>
void short_attention_backward(const AttentionHead<T>& head, HeadRows<const T> y, HeadRows<const T> dy, const T* log_sum_exp,
                              const HeadGradients<T>& out);

// The long kernel works on tiles of queries and keys. The head of the forward has at most query_tile queries.
inline constexpr std::int64_t query_tile = 64, key_tile = 128;
template <class T>
void long_attention_forward(const AttentionHead<T>& head, HeadRows<T> y, T* log_sum_exp);
// `delta` is scratch memory for one element per query.
template <class T>
void long_attention_backward(const AttentionHead<T>& head, HeadRows<const T> y, HeadRows<const T> dy, const T* log_sum_exp, T* delta,
                             const HeadGradients<T>& out);

}  // namespace mblm
