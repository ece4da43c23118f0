// Products with lower triangular matrices of one chunk of tokens: M (q x q) with q <= 64, rows `triangle_row` apart, zero above
// the diagonal and up to padded(q). Few tokens are multiplied in registers: a general product would spend its time packing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/gemm.h"
#include "cpu/unaligned_lanes.h"

namespace mblm {

inline constexpr std::int64_t triangle_row = 64;
inline constexpr std::int64_t triangle_in_registers = 16;  // tokens up to which gemm is slower

// Columns of M that are computed: whole vectors.
inline std::int64_t padded(std::int64_t q) { return (q + 15) / 16 * 16; }

// out[0 .. N lanes) = beta out + sum_k m[k step] x[k], x of `count` rows ldx apart.
template <int N, class T>
inline void combine_lanes(std::int64_t count, const T* m, std::int64_t step, const T* x, std::int64_t ldx, T beta, T* out) {
  constexpr std::int64_t one = lane_count<T>;
  Lanes<T> sum[N] = {};
  if (beta != 0)
    for (int i = 0; i < N; ++i) sum[i] = beta * load_lanes(out + i * one);
  for (std::int64_t k = 0; k < count; ++k)
    for (int i = 0; i < N; ++i) sum[i] += m[k * step] * load_lanes(x + k * ldx + i * one);
  for (int i = 0; i < N; ++i) lanes_at(out + i * one) = sum[i];
}

// The same for rows of any width.
template <class T>
inline void combine_rows(std::int64_t count, const T* m, std::int64_t step, const T* x, std::int64_t ldx, std::int64_t width, T beta, T* out) {
  constexpr std::int64_t one = lane_count<T>, block = 64;
  std::int64_t i = 0;
  for (; i + block <= width; i += block) combine_lanes<block / one>(count, m, step, x + i, ldx, beta, out + i);
  for (; i + one <= width; i += one) combine_lanes<1>(count, m, step, x + i, ldx, beta, out + i);
  for (; i < width; ++i) {
    T sum = beta != 0 ? beta * out[i] : T(0);
    for (std::int64_t k = 0; k < count; ++k) sum += m[k * step] * x[k * ldx + i];
    out[i] = sum;
  }
}

// out = beta out + M x; x and out (q x width), rows ldx apart.
template <class T>
inline void lower_times(std::int64_t q, std::int64_t width, const T* m, const T* x, std::int64_t ldx, T beta, T* out) {
  if (q > triangle_in_registers) return gemm<T>(false, false, q, width, q, T(1), m, triangle_row, x, ldx, beta, out, ldx);
  for (std::int64_t i = 0; i < q; ++i) combine_rows(i + 1, m + i * triangle_row, 1, x, ldx, width, beta, out + i * ldx);
}

// out = beta out + M^T x.
template <class T>
inline void lower_transposed_times(std::int64_t q, std::int64_t width, const T* m, const T* x, std::int64_t ldx, T beta, T* out) {
  if (q > triangle_in_registers) return gemm<T>(true, false, q, width, q, T(1), m, triangle_row, x, ldx, beta, out, ldx);
  for (std::int64_t j = 0; j < q; ++j)
    combine_rows(q - j, m + j * triangle_row + j, triangle_row, x + j * ldx, ldx, width, beta, out + j * ldx);
}

// M[i][j] = <a_i, b_j> for j <= i, zero beside it; a and b (q x width), rows ld apart.
template <class T>
inline void lower_dots(std::int64_t q, std::int64_t width, const T* a, const T* b, std::int64_t ld, T* m) {
  if (q > triangle_in_registers) {
    gemm<T>(false, true, q, q, width, T(1), a, ld, b, ld, T(0), m, triangle_row);
  } else {
    for (std::int64_t i = 0; i < q; ++i)
      for (std::int64_t j = 0; j <= i; ++j) m[i * triangle_row + j] = dot(width, a + i * ld, b + j * ld);
  }
  for (std::int64_t i = 0; i < q; ++i) std::fill(m + i * triangle_row + i + 1, m + i * triangle_row + padded(q), T(0));
}

}  // namespace mblm
