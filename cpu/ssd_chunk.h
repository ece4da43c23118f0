// Shared by the forward and backward kernels of ssd_scan. Tokens of a chunk are i, j = 0 .. q - 1.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "cpu/gemm.h"
#include "cpu/kernel.h"
#include "cpu/lower_triangle.h"
#include "ops/scalar.h"
#include "ops/ssd_scan.h"

namespace mblm::ssd {

static_assert(ssd_chunk == triangle_row);

struct Sizes {
  std::int64_t batch, tokens, heads, width, states, chunks;

  explicit Sizes(const SsdScanInputs& in)
      : batch(in.x.size(0)),
        tokens(in.x.size(1)),
        heads(in.dt.size(2)),
        width(in.x.size(2) / in.dt.size(2)),
        states(in.b.size(2)),
        chunks((in.x.size(1) + ssd_chunk - 1) / ssd_chunk) {}
  std::int64_t row() const { return heads * width; }                  // elements of x of one token
  std::int64_t head_state() const { return width * states; }          // elements of h of one head
  std::int64_t all_states() const { return heads * width * states; }  // of one sequence
  std::int64_t length(std::int64_t chunk) const { return std::min(ssd_chunk, tokens - chunk * ssd_chunk); }
  std::int64_t token(std::int64_t sequence, std::int64_t chunk) const { return sequence * tokens + chunk * ssd_chunk; }  // first of a chunk
};

// The states (H, p, S) of each sequence at the borders of its chunks, or their gradients: before the first chunk, between chunks, and
// after the last chunk. A null state is zero as an input and skipped as an output. The states between chunks are in a ring of slots.
template <class T>
struct Borders {
  T *first = nullptr, *between = nullptr, *last = nullptr;
  std::int64_t slots = 0;

  T* before(const Sizes& n, std::int64_t sequence, std::int64_t chunk) const {
    return chunk == 0 ? at(first, n, sequence) : after(n, sequence, chunk - 1);
  }
  T* after(const Sizes& n, std::int64_t sequence, std::int64_t chunk) const {
    return chunk == n.chunks - 1 ? at(last, n, sequence) : at(between, n, sequence * slots + chunk % slots);
  }

 private:
  static T* at(T* base, const Sizes& n, std::int64_t index) { return base == nullptr ? nullptr : base + index * n.all_states(); }
};

template <class T>
Borders<T> borders(const Tensor& first, const Tensor& between, const Tensor& last) {
  return {static_cast<T*>(raw(first)), static_cast<T*>(raw(between)), static_cast<T*>(raw(last)), between.defined() ? between.size(1) : 0};
}

// Chunks that one sweep over the states covers before their outputs are computed. So the states between them are read while they are
// in a cache, and they take little memory if they are not kept for backward.
inline constexpr std::int64_t sweep_chunks = 16;

// Chunks per tile: about 64 tokens.
inline std::int64_t chunks_per_tile(const Sizes& n) { return std::max<std::int64_t>(1, ssd_chunk / n.tokens); }

// The factors of one head in one chunk, a_i = exp(-exp(A_log) dt_i). Entries after q have dt = 0. Products of a_i are computed as the
// exponential of a sum, so that the rounding errors of a_i do not accumulate over a sequence.
template <class T>
struct Decay {
  alignas(64) T dt[ssd_chunk], a[ssd_chunk];
  alignas(64) T from_start[ssd_chunk];  // a_0 ... a_i: factor of the state before the chunk in h_i
  alignas(64) T to_end[ssd_chunk];      // a_{j+1} ... a_{q-1}: factor of token j in the state after the chunk
  T rate;                               // exp(A_log)
  std::int64_t q;

  Decay(const Sizes& n, const T* all_dt, const T* a_log, std::int64_t token, std::int64_t length, std::int64_t head)
      : rate(std::exp(a_log[head])), q(length) {
    for (std::int64_t i = 0; i < q; ++i) dt[i] = all_dt[(token + i) * n.heads + head];
    std::fill(dt + q, dt + ssd_chunk, T(0));
#pragma omp simd
    for (std::int64_t i = 0; i < padded(q); ++i) a[i] = scalar::exp(-rate * dt[i]);
  }

  void find_products() {
    T sum = 0, back = 0;
    for (std::int64_t i = 0; i < q; ++i) from_start[i] = sum -= rate * dt[i];
    for (std::int64_t j = q - 1; j >= 0; back -= rate * dt[j--]) to_end[j] = back;
#pragma omp simd
    for (std::int64_t i = 0; i < q; ++i) {
      from_start[i] = scalar::exp(from_start[i]);
      to_end[i] = scalar::exp(to_end[i]);
    }
  }
  T whole() const { return from_start[q - 1]; }
};

// A one among zeros: load(one_among_zeros<T>.data() + lane_count<T> - 1 - k) has the one in lane k.
template <class T>
inline constexpr std::array<T, 2 * lane_count<T> - 1> one_among_zeros = [] {
  std::array<T, 2 * lane_count<T> - 1> values{};
  values[lane_count<T> - 1] = 1;
  return values;
}();

// M[i][j] = gram[i][j] L[i][j] dt_j, plus d on the diagonal, with gram[i][j] = C_i . B_j: y = M x within a chunk.
// L[i][j] = a_{j+1} ... a_i for j <= i, zero above the diagonal: computed row by row, without an exponential or a difference of sums.
// L is not stored when l is null.
template <class T>
void mixing_matrix(const Decay<T>& decay, const T* gram, T d, T* l, T* m) {
  constexpr std::int64_t one = lane_count<T>;
  for (std::int64_t j = 0; j < padded(decay.q); j += one) {
    Lanes<T> row = {};
    for (std::int64_t i = 0; i < std::min(j, decay.q); ++i) {
      store<T>(m + i * triangle_row + j, row);
      if (l != nullptr) store<T>(l + i * triangle_row + j, row);
    }
    for (std::int64_t i = j; i < decay.q; ++i) {
      const Lanes<T> diagonal = i < j + one ? load(one_among_zeros<T>.data() + one - 1 - (i - j)) : Lanes<T>{};
      row = row * decay.a[i] + diagonal;
      store<T>(m + i * triangle_row + j, load(gram + i * triangle_row + j) * row * load(decay.dt + j) + d * diagonal);
      if (l != nullptr) store<T>(l + i * triangle_row + j, row);
    }
  }
}

// out_i = weight_i x_i for rows i; (q x width), rows ldx and ldout apart; out may be x.
template <class X, class T>
void scale_rows(std::int64_t q, std::int64_t width, const T* weight, const X* x, std::int64_t ldx, T* out, std::int64_t ldout) {
  for (std::int64_t i = 0; i < q; ++i) {
    const X* row = x + i * ldx;
    const T w = weight[i];
    T* to = out + i * ldout;
#pragma omp simd
    for (std::int64_t k = 0; k < width; ++k) to[k] = w * read(row[k]);
  }
}

// out = keep from + sum_i weighted_i (outer) b_i: a state (p x S) over one chunk; from may be null and may be out.
template <class T>
void advance_state(const Sizes& n, std::int64_t q, T keep, const T* from, const T* weighted, const T* b, T* out) {
  if (from != nullptr) {
#pragma omp simd
    for (std::int64_t k = 0; k < n.head_state(); ++k) out[k] = keep * from[k];
  }
  gemm<T>(true, false, n.width, n.states, q, T(1), weighted, n.width, b, n.states, T(from != nullptr), out, n.states);
}

}  // namespace mblm::ssd
