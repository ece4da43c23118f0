#include <array>
#include <cmath>

#include "cpu/attention_head.h"
#include "cpu/gemm.h"
#include "cpu/lanes.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

// Queries [first, first + count) and keys [first_key, first_key + keys) of a head.
struct Tile {
  std::int64_t first, count, first_key, keys;
};

// s (count, key_tile) = masked, scaled scores.
template <class T>
void score_tile(const AttentionHead<T>& head, const Tile& tile, T* s) {
  gemm<T>(false, true, tile.count, tile.keys, head.width, head.scale, head.q + tile.first * head.q_stride, head.q_stride,
          head.k + tile.first_key * head.k_stride, head.k_stride, T(0), s, key_tile);
  if (head.key_mask == nullptr && tile.first_key + tile.keys <= head.causal_end(tile.first)) return;
  for (std::int64_t r = 0; r < tile.count; ++r) mask_scores(head, tile.first + r, tile.first_key, tile.keys, s + r * key_tile);
}

template <class T>
void scale_row(T* x, T factor, std::int64_t width) {
#pragma omp simd
  for (std::int64_t c = 0; c < width; ++c) x[c] *= factor;
}

// The running softmax of one query: the weights of the keys so far, relative to exp(largest), have the sum `sum`.
template <class T>
struct RunningSoftmax {
  T largest = -std::numeric_limits<T>::infinity(), sum = 0;

  // Turns scores into weights; returns the factor that rescales the earlier sums.
  T add(T* s, std::int64_t count) {
    const T top = std::max(largest, row_max(s, count));
    const T base = std::isinf(top) && top < 0 ? T(0) : top;  // no key yet: every weight is exp(-inf)
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) s[j] = scalar::exp(s[j] - base);
    const T factor = scalar::exp(largest - base);
    largest = top;
    sum = sum * factor + row_sum(s, count);
    return factor;
  }
};

template <class T>
void drop_row(const AttentionHead<T>& head, std::int64_t query, std::int64_t first, std::int64_t count, T* weights) {
  T keep[key_tile];
  keep_factors(head, query, first, count, keep);
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) weights[j] *= keep[j];
}

// One tile of weights p and score gradients ds. On entry p holds the scores s, and ds holds dp = dy v^T:
// p = exp(s - log-sum-exp), ds = p (keep dp - delta) scale; then p is multiplied by keep. A query without a visible key has constant
// weights, so its ds is 0.
template <class T>
void gradient_rows(const AttentionHead<T>& head, const Tile& tile, const T* log_sum_exp, const T* delta, T* p, T* ds) {
  for (std::int64_t r = 0; r < tile.count; ++r, p += key_tile, ds += key_tile) {
    const std::int64_t query = tile.first + r;
    const T factor = head.sees_none(query) ? T(0) : head.scale, lse = log_sum_exp[query], dot = delta[query];
    if (head.drop_below > 0) drop_row(head, query, tile.first_key, tile.keys, ds);
#pragma omp simd
    for (std::int64_t j = 0; j < tile.keys; ++j) {
      p[j] = scalar::exp(p[j] - lse);
      ds[j] = p[j] * (ds[j] - dot) * factor;
    }
    if (head.drop_below > 0) drop_row(head, query, tile.first_key, tile.keys, p);
  }
}

// Adds the contributions of one tile to dq, dk and dv.
template <class T>
void add_tile_gradients(const AttentionHead<T>& head, const Tile& tile, HeadRows<const T> dy, const T* log_sum_exp, const T* delta,
                        const HeadGradients<T>& out) {
  alignas(64) T p[query_tile * key_tile], ds[query_tile * key_tile];
  const std::int64_t d = head.width, stride = head.k_stride;
  const T *q = head.q + tile.first * head.q_stride, *k = head.k + tile.first_key * stride, *v = head.v + tile.first_key * stride;
  score_tile(head, tile, p);
  gemm<T>(false, true, tile.count, tile.keys, d, T(1), dy[tile.first], dy.stride, v, stride, T(0), ds, key_tile);
  gradient_rows(head, tile, log_sum_exp, delta, p, ds);
  gemm<T>(true, false, tile.keys, d, tile.count, T(1), p, key_tile, dy[tile.first], dy.stride, T(1), out.dv[tile.first_key], out.dv.stride);
  gemm<T>(true, false, tile.keys, d, tile.count, T(1), ds, key_tile, q, head.q_stride, T(1), out.dk[tile.first_key], out.dk.stride);
  gemm<T>(false, false, tile.count, d, tile.keys, T(1), ds, key_tile, k, stride, T(1), out.dq[tile.first], out.dq.stride);
}

}  // namespace

// Online softmax over tiles of keys: y holds the weighted sum of the values so far, relative to the largest score so far.
template <class T>
void long_attention_forward(const AttentionHead<T>& head, HeadRows<T> y, T* log_sum_exp) {
  alignas(64) T s[query_tile * key_tile];
  std::array<RunningSoftmax<T>, query_tile> softmax;
  const std::int64_t count = head.queries, needed = head.keys_needed(0, count);
  for (std::int64_t first_key = 0; first_key < needed; first_key += key_tile) {
    const Tile tile{0, count, first_key, std::min(key_tile, needed - first_key)};
    score_tile(head, tile, s);
    for (std::int64_t r = 0; r < count; ++r) {
      const T factor = softmax[static_cast<std::size_t>(r)].add(s + r * key_tile, tile.keys);
      if (first_key > 0 && factor != 1) scale_row(y[r], factor, head.width);
      if (head.drop_below > 0) drop_row(head, r, first_key, tile.keys, s + r * key_tile);
    }
    gemm<T>(false, false, count, head.width, tile.keys, T(1), s, key_tile, head.v + first_key * head.k_stride, head.k_stride,
            first_key > 0 ? T(1) : T(0), y[0], y.stride);
  }
  for (std::int64_t r = 0; r < count; ++r) {
    const RunningSoftmax<T>& row = softmax[static_cast<std::size_t>(r)];
    scale_row(y[r], 1 / row.sum, head.width);
    log_sum_exp[r] = row.largest + std::log(row.sum);
  }
}

// Recomputes the weights from the log-sum-exp, a tile at a time. All sums of one head have a fixed order.
template <class T>
void long_attention_backward(const AttentionHead<T>& head, HeadRows<const T> y, HeadRows<const T> dy, const T* log_sum_exp, T* delta,
                             const HeadGradients<T>& out) {
  for (std::int64_t i = 0; i < head.queries; ++i) {
    delta[i] = row_dot(y[i], dy[i], head.width);
    for (const HeadRows<T>& rows : {out.dq, out.dk, out.dv}) std::fill_n(rows[i], head.width, T(0));
  }
  for (std::int64_t first = 0; first < head.queries; first += query_tile) {
    const std::int64_t count = std::min(query_tile, head.queries - first), needed = head.keys_needed(first, count);
    for (std::int64_t first_key = 0; first_key < needed; first_key += key_tile)
      add_tile_gradients(head, {first, count, first_key, std::min(key_tile, needed - first_key)}, dy, log_sum_exp, delta, out);
  }
}

template void long_attention_forward(const AttentionHead<float>&, HeadRows<float>, float*);
template void long_attention_forward(const AttentionHead<double>&, HeadRows<double>, double*);
template void long_attention_backward(const AttentionHead<float>&, HeadRows<const float>, HeadRows<const float>, const float*, float*,
                                      const HeadGradients<float>&);
template void long_attention_backward(const AttentionHead<double>&, HeadRows<const double>, HeadRows<const double>, const double*, double*,
                                      const HeadGradients<double>&);

}  // namespace mblm
