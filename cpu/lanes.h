// One vector register as a type, for kernels that hold a recurrence in registers: loops over lanes leave that to the
// compiler, which keeps such values in memory. Operators work lane by lane; a scalar operand stands for equal lanes.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

namespace mblm {

#ifdef __AVX512F__
inline constexpr std::int64_t vector_bytes = 64;
#else
inline constexpr std::int64_t vector_bytes = 32;
#endif

template <class T>
inline constexpr std::int64_t lane_count = vector_bytes / static_cast<std::int64_t>(sizeof(T));

template <class T>
struct LanesOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Lanes = typename LanesOf<T>::type;

// The first `count` lanes from and to memory; lanes that are not loaded are 0.
template <class T>
inline Lanes<T> load_lanes(const T* from, std::int64_t count = lane_count<T>) {
  Lanes<T> x{};
  std::memcpy(&x, from, static_cast<std::size_t>(count) * sizeof(T));
  return x;
}
template <class T>
inline void store_lanes(const Lanes<T>& x, T* to, std::int64_t count = lane_count<T>) {
  std::memcpy(to, &x, static_cast<std::size_t>(count) * sizeof(T));
}

// 2^x for x <= 127. Near-minimax polynomial of degree 6 on [-1/2, 1/2]; the sum with 1.5 2^23 has the rounded x in its
// lowest bits. Error below 1.2 units in the last place. Below -126.5 the result is 0; NaN stays NaN.
inline Lanes<float> fast_exp2(const Lanes<float>& x) {
  using Bits = Lanes<std::uint32_t>;
  constexpr float shift = 12582912.0f;
  const Lanes<float> lowest = Lanes<float>{} - 127.0f, bounded = x < lowest ? lowest : x, shifted = bounded + shift, r = bounded - (shifted - shift);
  Lanes<float> p = r * 1.54531634e-4f + 1.33908633e-3f;
  p = p * r + 9.61808302e-3f;
  p = p * r + 5.5503570e-2f;
  p = p * r + 2.40226507e-1f;
  p = p * r + 6.93147182e-1f;
  p = p * r + 1.0f;
  return p * std::bit_cast<Lanes<float>>((std::bit_cast<Bits>(shifted) + 127u) << 23);
}
inline Lanes<double> fast_exp2(const Lanes<double>& x) {
  Lanes<double> y{};
  for (std::int64_t i = 0; i < lane_count<double>; ++i) y[i] = std::exp2(x[i]);
  return y;
}

namespace detail {

// In each run of 2 M lanes: first M sums a[i] + a[i + M], then M sums b[i] + b[i + M].
template <int M, class T, int... I>
inline Lanes<T> fold_pair(const Lanes<T>& a, const Lanes<T>& b, std::integer_sequence<int, I...>) {
  constexpr int n = static_cast<int>(lane_count<T>);
  return __builtin_shufflevector(a, b, ((I / (2 * M)) * 2 * M + I % M + (I % (2 * M) < M ? 0 : n))...) +
         __builtin_shufflevector(a, b, ((I / (2 * M)) * 2 * M + I % M + (I % (2 * M) < M ? 0 : n) + M)...);
}

template <int M, class T>
inline void fold_rows(Lanes<T>* rows) {
  if constexpr (M > 0) {
    for (int i = 0; i < M; ++i) rows[i] = fold_pair<M, T>(rows[i], rows[i + M], std::make_integer_sequence<int, lane_count<T>>{});
    fold_rows<M / 2, T>(rows);
  }
}

}  // namespace detail

// Lane i of the result is the sum of the lanes of rows[i], for as many rows as there are lanes. Three instructions per row:
// each step folds pairs of rows into one.
template <class T>
inline Lanes<T> sums_of_rows(const Lanes<T>* rows) {
  Lanes<T> work[lane_count<T>];
  for (std::int64_t i = 0; i < lane_count<T>; ++i) work[i] = rows[i];
  detail::fold_rows<static_cast<int>(lane_count<T> / 2), T>(work);
  return work[0];
}

}  // namespace mblm
