// Shared by the forward and backward kernels of selective_scan.
#pragma once

#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/scalar.h"
#include "ops/selective_scan.h"

namespace mblm::selective {

// A unit of work is a chunk of tokens of a group of channels of one sequence. Vector lanes run across channels. The states of a
// channel are independent, so they are computed one after the other, each over all tokens of the chunk. Then h of a state is one
// register, its histories fit in the L1 cache, and only the sums of db and dc run across lanes.
inline constexpr std::int64_t chunk = selective_scan_chunk;
inline constexpr double ln2 = 0.693147180559945309;

template <class T>
struct Sizes {
  static constexpr std::int64_t lanes = lane_count<T>;

  explicit Sizes(const SelectiveScanInputs& in)
      : sequences(in.x.size(0)),
        tokens(in.x.size(1)),
        channels(in.x.size(2)),
        states(in.a_log.size(1)),
        groups(tile_count(channels, lanes)),
        chunks(tile_count(tokens, chunk)),
        padded_tokens(tile_count(std::min(tokens, chunk), lanes) * lanes) {}
  std::int64_t width(std::int64_t group) const { return std::min(lanes, channels - group * lanes); }
  std::int64_t tokens_of(std::int64_t k) const { return std::min(chunk, tokens - k * chunk); }
  // Offset of the states of a group of channels in a (B, C, S) tensor, and in the chunk states (B, chunks - 1, C, S).
  std::int64_t state_offset(std::int64_t sequence, std::int64_t group) const { return (sequence * channels + group * lanes) * states; }
  std::int64_t chunk_state_offset(std::int64_t sequence, std::int64_t k, std::int64_t group) const {
    return ((sequence * (chunks - 1) + k - 1) * channels + group * lanes) * states;
  }
  std::int64_t sequences, tokens, channels, states, groups, chunks;
  std::int64_t padded_tokens;  // tokens of a chunk, rounded up to whole vectors
};

// The states of a group of channels in a (C, S) array, one vector per state; zeros for a null array and in lanes without a channel. Squares
// of values are transposed in registers.
template <class T>
void load_states(const T* from, std::int64_t states, std::int64_t width, Lanes<T>* to) {
  if (from == nullptr) {
    std::fill_n(to, states, Lanes<T>{});
    return;
  }
  constexpr std::int64_t lanes = lane_count<T>;
  std::int64_t s = 0;
  for (; width == lanes && s + lanes <= states; s += lanes) {
    for (std::int64_t i = 0; i < lanes; ++i) to[s + i] = load(from + i * states + s);
    transpose_lanes<T>(to + s);
  }
  for (; s < states; ++s) {
    to[s] = Lanes<T>{};
    for (std::int64_t i = 0; i < width; ++i) to[s][i] = from[i * states + s];
  }
}
template <class T>
void store_states(const Lanes<T>* from, std::int64_t states, std::int64_t width, T* to) {
  constexpr std::int64_t lanes = lane_count<T>;
  std::int64_t s = 0;
  for (; width == lanes && s + lanes <= states; s += lanes) {
    Lanes<T> square[lanes];
    std::copy_n(from + s, lanes, square);
    transpose_lanes<T>(square);
    for (std::int64_t i = 0; i < lanes; ++i) store(to + i * states + s, square[i]);
  }
  for (; s < states; ++s)
    for (std::int64_t i = 0; i < width; ++i) to[i * states + s] = from[s][i];
}

// A / ln 2 = -exp(A_log) / ln 2, as (groups, S, lanes), for exp(dt A) = 2^(dt A / ln 2). Lanes without a channel are finite; their dt is 0.
// exp(A_log) is at most 2^127. For one token this is as much work as the scan.
template <class T>
Tensor grouped_rates(const Tensor& a_log, const Sizes<T>& sizes) {
  constexpr std::int64_t lanes = lane_count<T>;
  Tensor rates = empty(Shape{sizes.groups, sizes.states, lanes}, a_log.dtype());
  const T* from = data<T>(a_log);
  T* to = data<T>(rates);
  parallel_tiles(sizes.groups, 16, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    Lanes<T> vectors[selective_scan_max_states];
    for (std::int64_t group = begin; group < end; ++group) {
      const std::int64_t width = sizes.width(group);
      load_states(from + group * lanes * sizes.states, sizes.states, width, vectors);
      for (std::int64_t s = 0; s < sizes.states; ++s) {
        const Lanes<T> power = vectors[s] * static_cast<T>(1 / ln2), largest = Lanes<T>{} + T(127);
        store(to + (group * sizes.states + s) * lanes, fast_exp2(power > largest ? largest : power) * static_cast<T>(-1 / ln2));
      }
    }
  });
  return rates;
}

// Loads or stores `rows` rows of `width` channels, `stride` apart. A full group has its own loop with a constant width.
template <class E>
void load_rows(const E* from, std::int64_t stride, std::int64_t rows, std::int64_t width, Lanes<Real<E>>* to) {
  if (width == lane_count<Real<E>>) {
    for (std::int64_t t = 0; t < rows; ++t) to[t] = load(from + t * stride);
  } else {
    for (std::int64_t t = 0; t < rows; ++t) to[t] = load_first(from + t * stride, width);
  }
}
template <class E>
void store_rows(const Lanes<Real<E>>* from, std::int64_t rows, std::int64_t width, E* to, std::int64_t stride) {
  if (width == lane_count<Real<E>>) {
    for (std::int64_t t = 0; t < rows; ++t) store(to + t * stride, from[t]);
  } else {
    for (std::int64_t t = 0; t < rows; ++t) store_first(to + t * stride, from[t], width);
  }
}

// Prefetches part `part` of `parts` of the rows of the next chunk, one cache line per row, while the current chunk is computed. The
// hardware prefetcher does not follow lines that are a row apart.
template <class T>
void prefetch_rows(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t part, std::int64_t parts) {
  if (rows == 0) return;  // the divisions take longer than the rest of one token
  for (std::int64_t t = rows * part / parts; t < rows * (part + 1) / parts; ++t) __builtin_prefetch(from + t * stride);
}

// State s of a group of channels in a (C, S) array; zeros for a null array.
template <class T>
Lanes<T> load_state(const T* from, std::int64_t states, std::int64_t s, std::int64_t width) {
  Lanes<T> h{};
  if (from == nullptr) return h;
  for (std::int64_t i = 0; i < width; ++i) h[i] = from[i * states + s];
  return h;
}

// The rows of a chunk on the stack. There are eight rows more than tokens, because arrays at a distance of a multiple of 4 KiB use the
// same L1 cache sets, and a load from one array would wait for a store to the same row of another array.
inline constexpr std::int64_t chunk_rows = chunk + 8;
template <class T>
using ChunkRows = Lanes<T>[chunk_rows];

// The rows of a chunk that forward and backward read.
template <class T>
struct ChunkInputs {
  ChunkRows<T> x, dt, dtx;  // dtx = dt x

  template <class E>
  void load(const E* x_rows, const T* dt_rows, std::int64_t stride, std::int64_t rows, std::int64_t width) {
    load_rows(x_rows, stride, rows, width, x);
    load_rows(dt_rows, stride, rows, width, dt);
    for (std::int64_t t = 0; t < rows; ++t) dtx[t] = dt[t] * x[t];
  }
};

}  // namespace mblm::selective
