// What the two ways of computing attention on the CPU share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "engine/random.h"

namespace mblm {

// One head of one sequence: where its rows lie, and which keys a query sees.
template <class T>
struct AttentionHead {
  const T *q, *k, *v;               // first rows
  std::int64_t q_stride, k_stride;  // between tokens; k and v alike
  std::int64_t queries, keys, width;
  std::int64_t offset;  // query i is token offset + i
  T scale;
  bool causal;
  const std::uint8_t* key_mask;  // (keys), or null
  std::int64_t first_key;        // the first one that the mask lets through; `keys` when there is none
  RandomKey random;              // of the dropout
  std::uint64_t first_element;   // of query 0 and key 0
  std::uint32_t drop_below;      // random words below are dropped; 0: none
  T keep_factor;                 // 1 / (1 - p)

  // Keys [0, causal_end) may be seen by a query. One that the mask leaves without any key sees all keys with equal weight.
  std::int64_t causal_end(std::int64_t query) const { return causal ? std::min(keys, offset + query + 1) : keys; }
  bool sees_none(std::int64_t query) const { return first_key >= causal_end(query); }
  std::int64_t key_end(std::int64_t query) const { return sees_none(query) ? keys : causal_end(query); }
};

// Scores s of one query and keys [first, first + count): -inf where it must not see, 0 all over where it sees no key.
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

// What the dropout multiplies the weights of one query and keys [first, first + count) with: 0 or 1 / (1 - p).
// Four elements share a block of random words.
template <class T>
void keep_factors(const AttentionHead<T>& head, std::int64_t query, std::int64_t first, std::int64_t count, T* factors) {
  const std::uint64_t start = head.first_element + static_cast<std::uint64_t>(query * head.keys + first);
  for (std::int64_t j = 0; j < count;) {
    const std::uint64_t element = start + static_cast<std::uint64_t>(j);
    const RandomWords words = philox(head.random, element / 4);
    for (std::size_t word = element % 4; word < 4 && j < count; ++word, ++j) factors[j] = words[word] >= head.drop_below ? head.keep_factor : T(0);
  }
}

// Rows of one head in an output, `stride` apart.
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

// Sequences of up to this many keys take the short way: a head at a time, all its scores on the stack. Measured with 64 channels:
// at 33 tokens it is 20 % ahead of the long way, at 64 10 % behind.
inline constexpr std::int64_t short_keys = 48;

// log_sum_exp has one element per query.
template <class T>
void short_attention_forward(const AttentionHead<T>& head, HeadRows<T> y, T* log_sum_exp);
template <class T>
void short_attention_backward(const AttentionHead<T>& head, HeadRows<const T> y, HeadRows<const T> dy, const T* log_sum_exp,
                              const HeadGradients<T>& out);

// Longer ones go by tiles of queries and keys; the forward takes one tile of queries from `first_query` on.
inline constexpr std::int64_t query_tile = 64, key_tile = 128;
template <class T>
void long_attention_forward(const AttentionHead<T>& head, std::int64_t first_query, HeadRows<T> y, T* log_sum_exp);
// `delta` has room for one element per query.
template <class T>
void long_attention_backward(const AttentionHead<T>& head, HeadRows<const T> y, HeadRows<const T> dy, const T* log_sum_exp, T* delta,
                             const HeadGradients<T>& out);

}  // namespace mblm
