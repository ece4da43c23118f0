#include "ops/attention.h"

#include <cmath>

#include "cpu/attention_head.h"
#include "cpu/kernel.h"
#include "cpu/step_scalars.h"
#include "ops/dropout.h"

namespace mblm {
namespace {

std::int64_t first_visible(const std::uint8_t* key_mask, std::int64_t keys) {
  return key_mask == nullptr ? 0 : std::find_if(key_mask, key_mask + keys, [](std::uint8_t visible) { return visible != 0; }) - key_mask;
}

// Head h of sequence b of the packed rows (B, T, 3 H d).
template <class T>
AttentionHead<T> head_of(const Tensor& qkv, const AttentionOptions& options, std::int64_t b, std::int64_t h) {
  const std::int64_t tokens = qkv.size(1), row = qkv.size(2), width = row / (3 * options.heads);
  const T* q = data<T>(qkv) + b * tokens * row + h * width;
  const std::uint8_t* key_mask = options.key_mask.defined() ? data<std::uint8_t>(options.key_mask) + b * tokens : nullptr;
  AttentionHead<T> head{};
  head.q = q;
  head.k = q + row / 3;
  head.v = q + row / 3 * 2;
  head.q_stride = head.k_stride = row;
  head.queries = head.keys = tokens;
  head.width = width;
  head.scale = static_cast<T>(1 / std::sqrt(static_cast<double>(width)));
  head.causal = options.causal;
  head.key_mask = key_mask;
  head.first_key = first_visible(key_mask, tokens);
  head.random = key_of(options.random);
  head.first_element = static_cast<std::uint64_t>(((options.first_sequence + b) * options.heads + h) * tokens * tokens);
  head.drop_below = dropout_threshold(options.dropout);
  head.keep_factor = static_cast<T>(1 / (1 - static_cast<double>(options.dropout)));
  return head;
}

// Rows of head h of sequence b in a tensor x (B, T, H d), or in the given third of packed rows (B, T, 3 H d).
template <class T>
HeadRows<T> rows_of(T* data, const Tensor& x, std::int64_t width, std::int64_t b, std::int64_t h, std::int64_t third = 0) {
  return {data + b * x.size(1) * x.size(2) + third * (x.size(2) / 3) + h * width, x.size(2)};
}

// Pairs of sequence and head in one tile of short sequences: about a share of the L2 cache.
std::int64_t pairs_per_tile(std::int64_t queries, std::int64_t width) {
  return std::max<std::int64_t>(1, elementwise_tile / std::max<std::int64_t>(1, queries * width));
}

// A unit of work is a group of heads for short sequences, and a tile of queries of one head for long sequences.
void forward(const Tensor& qkv, const AttentionOptions& options, Tensor& y, Tensor& log_sum_exp) {
  for_real_type("attention_forward", qkv.dtype(), [&]<class T>() {
    const std::int64_t batch = y.size(0), tokens = y.size(1), heads = options.heads, width = y.size(2) / heads;
    T *py = data<T>(y), *lse = data<T>(log_sum_exp);
    if (tokens <= short_keys) {
      parallel_tiles(batch * heads, pairs_per_tile(tokens, width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
        for (std::int64_t pair = begin; pair < end; ++pair) {
          const std::int64_t b = pair / heads, h = pair % heads;
          short_attention_forward<T>(head_of<T>(qkv, options, b, h), rows_of(py, y, width, b, h), lse + pair * tokens);
        }
      });
      return;
    }
    const std::int64_t tiles = tile_count(tokens, query_tile);
    parallel_tiles(batch * heads * tiles, 1, [&](std::int64_t index, std::int64_t, std::int64_t) {
      const std::int64_t pair = index / tiles, b = pair / heads, h = pair % heads;
      long_attention_forward<T>(head_of<T>(qkv, options, b, h), index % tiles * query_tile, rows_of(py, y, width, b, h), lse + pair * tokens);
    });
  });
}

// A unit of work is one or more whole heads, so that one thread computes each sum in one order.
void backward(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, const AttentionOptions& options, Tensor& dqkv) {
  for_real_type("attention_backward", qkv.dtype(), [&]<class T>() {
    const std::int64_t batch = y.size(0), tokens = y.size(1), heads = options.heads, width = y.size(2) / heads;
    const bool is_short = tokens <= short_keys;
    const T *py = data<T>(y), *pdy = data<T>(dy), *lse = data<T>(log_sum_exp);
    T* pd = data<T>(dqkv);
    Tensor deltas = is_short ? Tensor{} : empty_like(log_sum_exp);
    T* delta = is_short ? nullptr : data<T>(deltas);
    parallel_tiles(batch * heads, is_short ? pairs_per_tile(tokens, width) : 1, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t pair = begin; pair < end; ++pair) {
        const std::int64_t b = pair / heads, h = pair % heads;
        const AttentionHead<T> head = head_of<T>(qkv, options, b, h);
        const HeadRows<const T> rows_y = rows_of(py, y, width, b, h), rows_dy = rows_of(pdy, dy, width, b, h);
        const HeadGradients<T> out{rows_of(pd, dqkv, width, b, h, 0), rows_of(pd, dqkv, width, b, h, 1), rows_of(pd, dqkv, width, b, h, 2)};
        if (is_short)
          short_attention_backward<T>(head, rows_y, rows_dy, lse + pair * tokens, out);
        else
          long_attention_backward<T>(head, rows_y, rows_dy, lse + pair * tokens, delta + pair * tokens, out);
      }
    });
  });
}

// Copies k and v of the packed rows to the caches, starting at row lengths[b] of sequence b.
template <class T>
void append(const Tensor& qkv, const std::int64_t* lengths, Tensor& k, Tensor& v) {
  const std::int64_t tokens = qkv.size(1), width = k.size(2), capacity = k.size(1);
  const T* from = data<T>(qkv);
  T *pk = data<T>(k), *pv = data<T>(v);
  parallel_tiles(qkv.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t b = row / tokens, to = (b * capacity + lengths[b] + row % tokens) * width;
      std::copy_n(from + (3 * row + 1) * width, width, pk + to);
      std::copy_n(from + (3 * row + 2) * width, width, pv + to);
    }
  });
}

// The number of keys of a sequence selects the short or the long kernel, so that its bits do not depend on the other sequences.
void cached(const Tensor& qkv, const Tensor& lengths, const AttentionOptions& options, Tensor& k, Tensor& v, Tensor& y) {
  for_real_type("attention_cached_forward", qkv.dtype(), [&]<class T>() {
    const std::int64_t* length = data<std::int64_t>(lengths);
    append<T>(qkv, length, k, v);
    const std::int64_t tokens = qkv.size(1), heads = options.heads, width = k.size(2) / heads, tiles = tile_count(tokens, query_tile);
    const T *pk = data<T>(k), *pv = data<T>(v);
    T* py = data<T>(y);
    Tensor log_sum_exp = empty(Shape{qkv.size(0), heads, tokens}, qkv.dtype());
    T* lse = data<T>(log_sum_exp);
    parallel_tiles(qkv.size(0) * heads * tiles, 1, [&](std::int64_t index, std::int64_t, std::int64_t) {
      const std::int64_t pair = index / tiles, tile = index % tiles, b = pair / heads, h = pair % heads;
      AttentionHead<T> head = head_of<T>(qkv, options, b, h);
      head.k = pk + b * k.size(1) * k.size(2) + h * width;
      head.v = pv + b * k.size(1) * k.size(2) + h * width;
      head.k_stride = k.size(2);
      head.keys = length[b] + tokens;
      head.offset = length[b];
      const HeadRows<T> rows = rows_of(py, y, width, b, h);
      if (head.keys > short_keys)
        long_attention_forward<T>(head, tile * query_tile, rows, lse + pair * tokens);
      else if (tile == 0)
        short_attention_forward<T>(head, rows, lse + pair * tokens);
    });
  });
}

const bool added =
    add_cpu_kernel(attention_forward, forward) && add_cpu_kernel(attention_backward, backward) && add_cpu_kernel(attention_cached_forward, cached);

}  // namespace
}  // namespace mblm
