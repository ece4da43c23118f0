// Attention of new tokens over cached keys, with one order of operations for every query. Keys are counted from the first one of the
// sequence: segments of 4096 keys have their own online softmax over tiles of 64 keys, and the segments are merged in ascending order. So
// the order depends on the number of keys that a query sees: not on the other queries of the call, on the other sequences, on the capacity
// of a cache or on the number of threads.
#include <array>
#include <cmath>
#include <limits>

#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/attention.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

constexpr std::int64_t key_tile = 64, segment = 64 * key_tile;
// Queries of a unit of work, which read each tile of keys one after the other from the L1 cache; and queries of one register tile.
constexpr std::int64_t query_block = 32;
constexpr int group = 4;
// Segments become units of work when the calls has fewer other units than this: a few heads then use all threads for a long cache.
constexpr std::int64_t enough_units = 32;

template <class T>
constexpr std::int64_t padded(std::int64_t width) {
  return tile_count(width, lane_count<T>) * lane_count<T>;
}

// The elements [c, width) of a row, up to one vector; zeros after the last.
template <class E>
inline Lanes<Real<E>> load_part(const E* row, std::int64_t c, std::int64_t width) {
  return c + lane_count<Real<E>> <= width ? load(row + c) : load_first(row + c, width - c);
}

// The softmax of a query over some of its keys: weights relative to exp(largest), and their sum.
template <class T>
struct Softmax {
  T largest = -std::numeric_limits<T>::infinity(), sum = 0;
};

// Turns the `count` scores s of a tile into weights; returns the factor of the earlier sums. One
// function, so that the compiler rounds in the same way for every caller.
template <class T>
[[gnu::noinline]] T add_scores(T* s, std::int64_t count, T scale, Softmax<T>& softmax) {
  const std::int64_t whole = padded<T>(count);  // whole vectors; the rest of the tile would add zeros
  std::fill(s + count, s + whole, -std::numeric_limits<T>::infinity());
#pragma omp simd
  for (std::int64_t j = 0; j < whole; ++j) s[j] *= scale;
  const T top = std::max(softmax.largest, row_max(s, whole)), base = std::isinf(top) && top < 0 ? T(0) : top;
#pragma omp simd
  for (std::int64_t j = 0; j < whole; ++j) s[j] = scalar::exp(s[j] - base);
  std::fill(s + count, s + whole, T(0));
  const T factor = scalar::exp(softmax.largest - base);
  softmax.largest = top;
  softmax.sum = softmax.sum * factor + row_sum(s, whole);
  return factor;
}

// Adds the softmax and the weighted values of the next segment to those of the segments before it.
template <class T>
[[gnu::noinline]] void merge(Softmax<T>& all, T* values, const Softmax<T>& next, const T* next_values, std::int64_t width) {
  const T top = std::max(all.largest, next.largest), base = std::isinf(top) && top < 0 ? T(0) : top;
  const T before = scalar::exp(all.largest - base), after = scalar::exp(next.largest - base);
  all = {top, all.sum * before + next.sum * after};
  for (std::int64_t c = 0; c < width; c += lane_count<T>)
    store(values + c, multiply_add(load(values + c), Lanes<T>{} + before, load(next_values + c) * (Lanes<T>{} + after)));
}

// s[i * key_tile + j] = q row i . k row j for `columns` keys, of which the first `keys` exist: the scores of the others are not used.
template <int rows, int columns, class T, class E>
inline void score_group(const T* q, std::int64_t q_stride, const E* k, std::int64_t k_stride, std::int64_t width, std::int64_t keys, T* s) {
  constexpr int lanes = lane_count<T>;
  static_assert(rows * columns <= lanes);
  const E* key[columns];
#pragma GCC unroll 16
  for (int j = 0; j < columns; ++j) key[j] = k + std::min<std::int64_t>(j, keys - 1) * k_stride;
  Lanes<T> sum[lanes] = {};
  for (std::int64_t c = 0; c < width; c += lanes) {
    Lanes<T> b[columns];
#pragma GCC unroll 16
    for (int j = 0; j < columns; ++j) b[j] = load_part(key[j], c, width);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const Lanes<T> a = load(q + i * q_stride + c);
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) sum[i * columns + j] = multiply_add(a, b[j], sum[i * columns + j]);
    }
  }
  const Lanes<T> dots = sum_each<T>(sum);
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < columns; ++j) s[i * key_tile + j] = dots[i * columns + j];
}

template <int rows, class T, class E>
void score_rows(const T* q, std::int64_t q_stride, const E* k, std::int64_t k_stride, std::int64_t width, std::int64_t keys, T* s) {
  constexpr int columns = lane_count<T> / rows;
  for (std::int64_t j = 0; j < keys; j += columns) score_group<rows, columns>(q, q_stride, k + j * k_stride, k_stride, width, keys - j, s + j);
}

// y row i = factor_i y row i + sum_j s[i][j] v row j, keys in ascending order, for `vectors` vectors from channel c on.
template <int rows, int vectors, class T, class E>
inline void value_group(const T* s, const T* factors, const E* v, std::int64_t v_stride, std::int64_t width, std::int64_t keys, std::int64_t c, T* y,
                        std::int64_t y_stride) {
  constexpr std::int64_t lanes = lane_count<T>;
  Lanes<T> sum[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 16
    for (int e = 0; e < vectors; ++e) sum[i][e] = load(y + i * y_stride + c + e * lanes) * factors[i];
  for (std::int64_t j = 0; j < keys; ++j) {
    Lanes<T> b[vectors];
#pragma GCC unroll 16
    for (int e = 0; e < vectors; ++e) b[e] = load_part(v + j * v_stride, c + e * lanes, width);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const Lanes<T> weight = Lanes<T>{} + s[i * key_tile + j];
#pragma GCC unroll 16
      for (int e = 0; e < vectors; ++e) sum[i][e] = multiply_add(weight, b[e], sum[i][e]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 16
    for (int e = 0; e < vectors; ++e) store(y + i * y_stride + c + e * lanes, sum[i][e]);
}

template <int rows, class T, class E>
void value_rows(const T* s, const T* factors, const E* v, std::int64_t v_stride, std::int64_t width, std::int64_t keys, T* y, std::int64_t y_stride) {
  constexpr int vectors = 8 / rows;
  constexpr std::int64_t lanes = lane_count<T>;
  std::int64_t c = 0;
  for (; c + vectors * lanes <= width; c += vectors * lanes) value_group<rows, vectors>(s, factors, v, v_stride, width, keys, c, y, y_stride);
  for (; c < width; c += lanes) value_group<rows, 1>(s, factors, v, v_stride, width, keys, c, y, y_stride);
}

// One head of one sequence.
template <class E>
struct Head {
  using T = Real<E>;
  const E *k, *v;
  std::int64_t stride, width;  // elements between keys; d
  std::int64_t offset;         // query i sees keys [0, offset + i + 1)
  T scale;

  // Keys of [first, first + key_tile) that a query sees.
  std::int64_t visible(std::int64_t query, std::int64_t first) const { return std::clamp<std::int64_t>(offset + query + 1 - first, 0, key_tile); }
};

// The queries of a unit of work, with their running softmax and their weighted values, both without the division by the sum.
template <class T>
struct Queries {
  const T* q;  // (count, stride), zeros after the width
  T* values;   // likewise
  Softmax<T>* softmax;
  std::int64_t first, count, stride;
};

// Adds the keys [first, first + key_tile) to the queries [i, i + rows) of a block, which all see `keys` of them.
template <int rows, class E>
void add_tile(const Head<E>& head, const Queries<Real<E>>& block, std::int64_t i, std::int64_t first, std::int64_t keys) {
  using T = Real<E>;
  alignas(64) T s[rows * key_tile];
  T factors[rows];
  score_rows<rows>(block.q + i * block.stride, block.stride, head.k + first * head.stride, head.stride, head.width, keys, s);
  for (int r = 0; r < rows; ++r) factors[r] = add_scores(s + r * key_tile, keys, head.scale, block.softmax[i + r]);
  value_rows<rows>(s, factors, head.v + first * head.stride, head.stride, head.width, keys, block.values + i * block.stride, block.stride);
}

// The softmax and the values of a block over one segment of keys.
template <class E>
void run_segment(const Head<E>& head, const Queries<Real<E>>& block, std::int64_t index) {
  std::fill_n(block.softmax, block.count, Softmax<Real<E>>{});
  std::fill_n(block.values, block.count * block.stride, Real<E>(0));
  for (std::int64_t first = index * segment; first < (index + 1) * segment; first += key_tile) {
    std::int64_t i = 0;
    while (i < block.count) {
      const std::int64_t query = block.first + i, keys = head.visible(query, first);
      if (keys > 0 && i + group <= block.count && head.visible(query + group - 1, first) == keys) {
        add_tile<group>(head, block, i, first, keys);
        i += group;
      } else {
        if (keys > 0) add_tile<1>(head, block, i, first, keys);
        ++i;
      }
    }
    if (head.visible(block.first + block.count - 1, first) < key_tile) return;
  }
}

// Copies k and v of the packed rows to the caches, starting at row lengths[b] of sequence b.
template <class T>
void append(const Tensor& qkv, const KvCache& cache) {
  const std::int64_t tokens = qkv.size(1), width = qkv.size(2) / 3;
  const T* from = data<T>(qkv);
  parallel_tiles(qkv.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto b = static_cast<std::size_t>(row / tokens);
      const std::int64_t to = (cache.lengths[b] + row % tokens) * width;
      std::copy_n(from + (3 * row + 1) * width, width, data<T>(cache.k[b]) + to);
      std::copy_n(from + (3 * row + 2) * width, width, data<T>(cache.v[b]) + to);
    }
  });
}

// A unit is a block of queries of one head of one sequence.
template <class E>
class Forward {
 public:
  using T = Real<E>;

  Forward(const Tensor& qkv, const AttentionOptions& options, const KvCache& cache, Tensor& y)
      : cache_(cache),
        tokens_(qkv.size(1)),
        heads_(options.heads),
        width_(y.size(2) / options.heads),
        stride_(padded<T>(width_)),
        blocks_(tile_count(tokens_, query_block)),
        block_queries_(std::min(tokens_, query_block)),
        units_(qkv.size(0) * heads_ * blocks_),
        longest_(tokens_ + (cache.lengths.empty() ? 0 : *std::max_element(cache.lengths.begin(), cache.lengths.end()))),
        qkv_(data<E>(qkv)),
        y_(data<E>(y)) {}

  void run() const {
    if (units_ == 0) return;
    if (const std::int64_t segments = tile_count(longest_, segment); segments > 1 && units_ < enough_units) return run_split(segments);
    // About 0.1 million products per tile, so that short sequences share tiles.
    const std::int64_t per_tile = std::max<std::int64_t>(1, 65536 / (block_queries_ * longest_ * width_));
    parallel_tiles(units_, per_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      Tensor memory = empty(Shape{3, block_queries_, stride_}, dtype_of<T>);
      T *q = data<T>(memory), *values = q + block_queries_ * stride_, *next_values = values + block_queries_ * stride_;
      std::array<Softmax<T>, query_block> softmax, next_softmax;
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const Queries<T> all = queries(unit, q, values, softmax.data());
        const Head<E> head = head_of(unit);
        run_segment(head, all, 0);
        for (std::int64_t index = 1; index < segments_of(head, all); ++index) {
          run_segment(head, Queries<T>{q, next_values, next_softmax.data(), all.first, all.count, stride_}, index);
          for (std::int64_t i = 0; i < all.count; ++i) merge_query(head, all, i, index, next_softmax[static_cast<std::size_t>(i)], next_values + i * stride_);
        }
        finish(unit, all);
      }
    });
  }

 private:
  // The same with a unit for each segment, merged afterwards.
  void run_split(std::int64_t segments) const {
    Tensor memory = empty(Shape{units_, segments + 1, block_queries_, stride_}, dtype_of<T>);
    std::vector<Softmax<T>> softmax(static_cast<std::size_t>(units_ * segments * block_queries_));
    const std::int64_t part = block_queries_ * stride_;
    const auto memory_of = [&](std::int64_t unit, std::int64_t index) { return data<T>(memory) + (unit * (segments + 1) + index) * part; };
    const auto softmax_of = [&](std::int64_t unit, std::int64_t index) { return softmax.data() + (unit * segments + index) * block_queries_; };
    parallel_tiles(units_ * segments, 1, [&](std::int64_t index, std::int64_t, std::int64_t) {
      const std::int64_t unit = index / segments, s = index % segments;
      Tensor q = empty(Shape{block_queries_, stride_}, dtype_of<T>);
      const Head<E> head = head_of(unit);
      const Queries<T> block = queries(unit, data<T>(q), memory_of(unit, s), softmax_of(unit, s));
      if (s < segments_of(head, block)) run_segment(head, block, s);
    });
    parallel_tiles(units_, 1, [&](std::int64_t unit, std::int64_t, std::int64_t) {
      const Head<E> head = head_of(unit);
      const Queries<T> all = queries(unit, memory_of(unit, segments), memory_of(unit, 0), softmax_of(unit, 0));
      for (std::int64_t index = 1; index < segments_of(head, all); ++index)
        for (std::int64_t i = 0; i < all.count; ++i) merge_query(head, all, i, index, softmax_of(unit, index)[i], memory_of(unit, index) + i * stride_);
      finish(unit, all);
    });
  }

  static std::int64_t segments_of(const Head<E>& head, const Queries<T>& block) { return tile_count(head.offset + block.first + block.count, segment); }

  // A query that sees no key of a segment has nothing to merge.
  void merge_query(const Head<E>& head, const Queries<T>& all, std::int64_t i, std::int64_t index, const Softmax<T>& softmax, const T* values) const {
    if (head.visible(all.first + i, index * segment) > 0) merge(all.softmax[i], all.values + i * stride_, softmax, values, stride_);
  }

  Head<E> head_of(std::int64_t unit) const {
    const std::int64_t pair = unit / blocks_, h = pair % heads_;
    const auto b = static_cast<std::size_t>(pair / heads_);
    const Tensor &k = cache_.k[b], &v = cache_.v[b];
    return {data<E>(k) + h * width_, data<E>(v) + h * width_, heads_ * width_, width_, cache_.lengths[b], static_cast<T>(1 / std::sqrt(static_cast<double>(width_)))};
  }

  // The queries of a unit, converted and padded in q.
  Queries<T> queries(std::int64_t unit, T* q, T* values, Softmax<T>* softmax) const {
    const std::int64_t pair = unit / blocks_, first = unit % blocks_ * query_block, count = std::min(query_block, tokens_ - first);
    for (std::int64_t i = 0; i < count; ++i) {
      const E* row = qkv_ + ((pair / heads_) * tokens_ + first + i) * 3 * heads_ * width_ + pair % heads_ * width_;
      for (std::int64_t c = 0; c < width_; c += lane_count<T>) store(q + i * stride_ + c, load_part(row, c, width_));
    }
    return {q, values, softmax, first, count, stride_};
  }

  void finish(std::int64_t unit, const Queries<T>& all) const {
    const std::int64_t pair = unit / blocks_;
    for (std::int64_t i = 0; i < all.count; ++i) {
      const T factor = 1 / all.softmax[i].sum;
      E* row = y_ + ((pair / heads_) * tokens_ + all.first + i) * heads_ * width_ + pair % heads_ * width_;
      for (std::int64_t c = 0; c < width_; c += lane_count<T>) {
        const Lanes<T> part = load(all.values + i * stride_ + c) * factor;
        c + lane_count<T> <= width_ ? store(row + c, part) : store_first(row + c, part, width_ - c);
      }
    }
  }

  const KvCache& cache_;
  const std::int64_t tokens_, heads_, width_, stride_, blocks_, block_queries_, units_, longest_;
  const E* qkv_;
  E* y_;
};

void forward(const Tensor& qkv, const AttentionOptions& options, const KvCache& cache, Tensor& y) {
  for_floating_type("attention_cached_forward", qkv.dtype(), [&]<class E>() {
    append<E>(qkv, cache);
    Forward<E>(qkv, options, cache, y).run();
  });
}

const bool added = add_cpu_floating_kernel(attention_cached_forward, forward);

}  // namespace
}  // namespace mblm
