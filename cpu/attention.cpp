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

// Head h of sequence b of the packed rows (B, T, 3 H d), without its rows.
template <class T>
AttentionHead<T> head_of(const Tensor& qkv, const AttentionOptions& options, std::int64_t b, std::int64_t h) {
  const std::int64_t tokens = qkv.size(1), width = qkv.size(2) / (3 * options.heads);
  const std::uint8_t* key_mask = options.key_mask.defined() ? data<std::uint8_t>(options.key_mask) + b * tokens : nullptr;
  AttentionHead<T> head{};
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

// The tile of queries of a head that starts at query `first`.
template <class T>
AttentionHead<T> tile_of(AttentionHead<T> head, std::int64_t first) {
  head.first_element += static_cast<std::uint64_t>(first * head.keys);
  head.offset += first;
  head.queries = std::min(query_tile, head.queries - first);
  return head;
}

// Rows of head h of sequence b in a tensor x (B, T, H d), or in the given third of packed rows (B, T, 3 H d).
template <class T>
HeadRows<T> rows_of(T* data, const Tensor& x, std::int64_t width, std::int64_t b, std::int64_t h, std::int64_t third = 0) {
  return {data + b * x.size(1) * x.size(2) + third * (x.size(2) / 3) + h * width, x.size(2)};
}

// Gives the kernels rows of numbers: rows of float or double are used in place, rows of bfloat16 are converted in a buffer without
// gaps between rows.
template <class E>
class HeadBuffer {
 public:
  using T = Real<E>;

  HeadBuffer(std::int64_t rows, std::int64_t width) : width_(width), buffer_(rows * width) {}

  // Numbers of the first `count` rows.
  HeadRows<const T> read(HeadRows<const E> rows, std::int64_t count) {
    if constexpr (std::is_same_v<E, T>) {
      return rows;
    } else {
      T* to = buffer_.start_row(nullptr);
      for (std::int64_t i = 0; i < count; ++i) convert_row(rows[i], to + i * width_, width_);
      return {to, width_};
    }
  }
  // Memory for the numbers of rows to write. `finish` stores the first `count` rows.
  HeadRows<T> start(HeadRows<E> rows) {
    if constexpr (std::is_same_v<E, T>)
      return rows;
    else
      return {buffer_.start_row(nullptr), width_};
  }
  void finish(HeadRows<E> rows, std::int64_t count) {
    if constexpr (!std::is_same_v<E, T>)
      for (std::int64_t i = 0; i < count; ++i) convert_row(buffer_.start_row(nullptr) + i * width_, rows[i], width_);
  }

 private:
  std::int64_t width_;
  RowBuffer<E> buffer_;
};

// Buffers for the rows that a head reads.
template <class E>
struct HeadInputs {
  HeadBuffer<E> q, k, v;
  HeadInputs(std::int64_t queries, std::int64_t keys, std::int64_t width) : q(queries, width), k(keys, width), v(keys, width) {}

  // Sets the rows of a head; it reads the first `keys` rows of k and v.
  void set(AttentionHead<Real<E>>& head, HeadRows<const E> q_rows, HeadRows<const E> k_rows, HeadRows<const E> v_rows, std::int64_t keys) {
    const auto wide_q = q.read(q_rows, head.queries), wide_k = k.read(k_rows, keys);
    head.q = wide_q.rows;
    head.q_stride = wide_q.stride;
    head.k = wide_k.rows;
    head.k_stride = wide_k.stride;
    head.v = v.read(v_rows, keys).rows;
  }
};

// Pairs of sequence and head in one tile of short sequences: about a share of the L2 cache.
std::int64_t pairs_per_tile(std::int64_t queries, std::int64_t width) {
  return std::max<std::int64_t>(1, elementwise_tile / std::max<std::int64_t>(1, queries * width));
}

// A unit of work is a group of heads for short sequences, and a tile of queries of one head for long sequences. A bfloat16 tile
// converts all keys that it sees: 3 % of the time of its products.
void forward(const Tensor& qkv, const AttentionOptions& options, Tensor& y, Tensor& log_sum_exp) {
  for_floating_type("attention_forward", qkv.dtype(), [&]<class E>() {
    using T = Real<E>;
    const std::int64_t batch = y.size(0), tokens = y.size(1), heads = options.heads, width = y.size(2) / heads;
    const bool is_short = tokens <= short_keys;
    const std::int64_t tile_rows = is_short ? tokens : query_tile, tiles = is_short ? 1 : tile_count(tokens, query_tile);
    const E* p = data<E>(qkv);
    E* py = data<E>(y);
    T* lse = data<T>(log_sum_exp);
    parallel_tiles(batch * heads * tiles, is_short ? pairs_per_tile(tokens, width) : 1, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      HeadInputs<E> inputs(tile_rows, tokens, width);
      HeadBuffer<E> y_buffer(tile_rows, width);
      for (std::int64_t index = begin; index < end; ++index) {
        const std::int64_t pair = index / tiles, first = index % tiles * query_tile, b = pair / heads, h = pair % heads;
        const HeadRows<const E> q = rows_of(p, qkv, width, b, h, 0), k = rows_of(p, qkv, width, b, h, 1), v = rows_of(p, qkv, width, b, h, 2);
        const HeadRows<E> all_y = rows_of(py, y, width, b, h), rows{all_y[first], all_y.stride};
        AttentionHead<T> head = head_of<T>(qkv, options, b, h);
        if (!is_short) head = tile_of(head, first);
        inputs.set(head, {q[first], q.stride}, k, v, head.keys_needed(0, head.queries));
        if (is_short)
          short_attention_forward<T>(head, y_buffer.start(rows), lse + pair * tokens);
        else
          long_attention_forward<T>(head, y_buffer.start(rows), lse + pair * tokens + first);
        y_buffer.finish(rows, head.queries);
      }
    });
  });
}

// A unit of work is one or more whole heads, so that one thread computes each sum in one order.
void backward(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, const AttentionOptions& options, Tensor& dqkv) {
  for_floating_type("attention_backward", qkv.dtype(), [&]<class E>() {
    using T = Real<E>;
    const std::int64_t batch = y.size(0), tokens = y.size(1), heads = options.heads, width = y.size(2) / heads;
    const bool is_short = tokens <= short_keys;
    const E *p = data<E>(qkv), *py = data<E>(y), *pdy = data<E>(dy);
    const T* lse = data<T>(log_sum_exp);
    E* pd = data<E>(dqkv);
    Tensor deltas = is_short ? Tensor{} : empty_like(log_sum_exp);
    T* delta = is_short ? nullptr : data<T>(deltas);
    parallel_tiles(batch * heads, is_short ? pairs_per_tile(tokens, width) : 1, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      HeadInputs<E> inputs(tokens, tokens, width);
      HeadBuffer<E> y_buffer(tokens, width), dy_buffer(tokens, width), dq(tokens, width), dk(tokens, width), dv(tokens, width);
      for (std::int64_t pair = begin; pair < end; ++pair) {
        const std::int64_t b = pair / heads, h = pair % heads;
        AttentionHead<T> head = head_of<T>(qkv, options, b, h);
        inputs.set(head, rows_of(p, qkv, width, b, h, 0), rows_of(p, qkv, width, b, h, 1), rows_of(p, qkv, width, b, h, 2), tokens);
        const HeadRows<const T> rows_y = y_buffer.read(rows_of(py, y, width, b, h), tokens), rows_dy = dy_buffer.read(rows_of(pdy, dy, width, b, h), tokens);
        const HeadRows<E> out_q = rows_of(pd, dqkv, width, b, h, 0), out_k = rows_of(pd, dqkv, width, b, h, 1), out_v = rows_of(pd, dqkv, width, b, h, 2);
        const HeadGradients<T> out{dq.start(out_q), dk.start(out_k), dv.start(out_v)};
        if (is_short)
          short_attention_backward<T>(head, rows_y, rows_dy, lse + pair * tokens, out);
        else
          long_attention_backward<T>(head, rows_y, rows_dy, lse + pair * tokens, delta + pair * tokens, out);
        dq.finish(out_q, tokens);
        dk.finish(out_k, tokens);
        dv.finish(out_v, tokens);
      }
    });
  });
}

const bool added = add_cpu_floating_kernel(attention_forward, forward) && add_cpu_floating_kernel(attention_backward, backward);

}  // namespace
}  // namespace mblm
