// Products with lower triangular matrices of one chunk of tokens: M (q x q) with q <= 64, rows `triangle_row` apart, zero above
// the diagonal and up to padded(q). Sums stay in registers and end at the diagonal. A general matrix product would also compute
// the zeros, and for few tokens it would spend its time packing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/lanes.h"

namespace mblm {

inline constexpr std::int64_t triangle_row = 64;
inline constexpr std::int64_t block_rows = 4;  // rows of sums in registers, up to 4 vectors each

// Columns of M that are computed: q rounded up to whole vectors.
inline std::int64_t padded(std::int64_t q) { return (q + 15) / 16 * 16; }

// Coefficients m(r, k) = m[r row + k step] of rows r, terms k in [begin, end).
template <class T>
struct Coefficients {
  const T* m;
  std::int64_t row, step, begin, end;
};

// out[r][0 .. N lanes) = beta out + sum_k m(r, k) x[k], for R rows.
template <int R, int N, class T>
inline void combine_block(const Coefficients<T>& a, const T* x, std::int64_t ldx, T beta, T* out, std::int64_t ldout) {
  constexpr std::int64_t one = lane_count<T>;
  Lanes<T> sum[R][N] = {};
  for (std::int64_t k = a.begin; k < a.end; ++k) {
    Lanes<T> row[N];
    for (int i = 0; i < N; ++i) row[i] = load(x + k * ldx + i * one);
    for (int r = 0; r < R; ++r) {
      const T factor = a.m[r * a.row + k * a.step];
      for (int i = 0; i < N; ++i) sum[r][i] += factor * row[i];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      T* to = out + r * ldout + i * one;
      store<T>(to, beta == 0 ? sum[r][i] : sum[r][i] + beta * load(to));
    }
  }
}

// combine_block for rows of any width.
template <int R, class T>
inline void combine_rows(const Coefficients<T>& a, const T* x, std::int64_t ldx, std::int64_t width, T beta, T* out, std::int64_t ldout) {
  constexpr std::int64_t one = lane_count<T>, vectors = vector_bytes / 16, block = vectors * one;
  std::int64_t i = 0;
  for (; i + block <= width; i += block) combine_block<R, vectors>(a, x + i, ldx, beta, out + i, ldout);
  for (; i + one <= width; i += one) combine_block<R, 1>(a, x + i, ldx, beta, out + i, ldout);
  for (; i < width; ++i) {
    for (int r = 0; r < R; ++r) {
      T sum = 0;
      for (std::int64_t k = a.begin; k < a.end; ++k) sum += a.m[r * a.row + k * a.step] * x[k * ldx + i];
      T& to = out[r * ldout + i];
      to = beta == 0 ? sum : sum + beta * to;
    }
  }
}

// Runs f.operator()<R>(first row) for blocks of R rows that cover q rows.
template <class F>
inline void for_row_blocks(std::int64_t q, F&& f) {
  std::int64_t i = 0;
  for (; i + block_rows <= q; i += block_rows) f.template operator()<block_rows>(i);
  for (; i < q; ++i) f.template operator()<1>(i);
}

// out = beta out + M x; x and out (q x width), rows ldx and ldout apart.
template <class T>
inline void lower_times(std::int64_t q, std::int64_t width, const T* m, const T* x, std::int64_t ldx, T beta, T* out, std::int64_t ldout) {
  for_row_blocks(q, [&]<int R>(std::int64_t i) {
    combine_rows<R>(Coefficients<T>{m + i * triangle_row, triangle_row, 1, 0, i + R}, x, ldx, width, beta, out + i * ldout, ldout);
  });
}

// out = beta out + M^T x.
template <class T>
inline void lower_transposed_times(std::int64_t q, std::int64_t width, const T* m, const T* x, std::int64_t ldx, T beta, T* out, std::int64_t ldout) {
  for_row_blocks(q, [&]<int R>(std::int64_t j) {
    combine_rows<R>(Coefficients<T>{m + j, 1, triangle_row, j, q}, x, ldx, width, beta, out + j * ldout, ldout);
  });
}

// out (width x q, rows triangle_row apart, zero up to padded(q)) = x^T; width <= 64.
template <class T>
inline void transpose_rows(std::int64_t q, std::int64_t width, const T* x, std::int64_t ldx, T* out) {
  constexpr std::int64_t one = lane_count<T>;
  for (std::int64_t j = 0; j < padded(q); j += one) {
    std::int64_t k = 0;
    for (; k + one <= width; k += one) {
      Lanes<T> square[one];
      for (std::int64_t i = 0; i < one; ++i) square[i] = j + i < q ? load(x + (j + i) * ldx + k) : Lanes<T>{};
      transpose_lanes<T>(square);
      for (std::int64_t i = 0; i < one; ++i) store<T>(out + (k + i) * triangle_row + j, square[i]);
    }
    for (; k < width; ++k)
      for (std::int64_t i = j; i < j + one; ++i) out[k * triangle_row + i] = i < q ? x[i * ldx + k] : T(0);
  }
}

// M[i][j] = <a_i, b_j> for j <= i, zero for j > i; a and b (q x width), rows ld apart. For many tokens b is transposed first, so
// that the sums of a row are adjacent.
template <class T>
inline void lower_dots(std::int64_t q, std::int64_t width, const T* a, const T* b, std::int64_t ld, T* m) {
  constexpr std::int64_t depth = 64, few_tokens = 16;
  if (q <= few_tokens) {
    for (std::int64_t i = 0; i < q; ++i)
      for (std::int64_t j = 0; j <= i; ++j) m[i * triangle_row + j] = row_dot(a + i * ld, b + j * ld, width);
  } else {
    alignas(64) T columns[depth * triangle_row];
    for (std::int64_t first = 0; first < width; first += depth) {
      const std::int64_t count = std::min(depth, width - first);
      transpose_rows(q, count, b + first, ld, columns);
      for_row_blocks(q, [&]<int R>(std::int64_t i) {
        const Coefficients<T> rows{a + i * ld + first, ld, 1, 0, count};
        combine_rows<R>(rows, columns, triangle_row, padded(i + R), T(first != 0), m + i * triangle_row, triangle_row);
      });
    }
  }
  for (std::int64_t i = 0; i < q; ++i) std::fill(m + i * triangle_row + i + 1, m + i * triangle_row + padded(q), T(0));
}

}  // namespace mblm
