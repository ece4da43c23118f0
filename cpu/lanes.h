// Explicit vectors, for loops that keep their sums in registers: the compiler spills those of `#pragma omp simd`, and adds up the
// lanes of a reduction one by one.
#pragma once

#include <cstdint>
#include <utility>

namespace mblm {

// One register of elements, at any address.
#ifdef __AVX512F__
inline constexpr std::int64_t lane_bytes = 64;
#else
inline constexpr std::int64_t lane_bytes = 32;
#endif
template <class T>
using Lanes [[gnu::vector_size(lane_bytes), gnu::aligned(alignof(T)), gnu::may_alias]] = T;
template <class T>
inline constexpr std::int64_t lane_count = lane_bytes / sizeof(T);

template <class T>
inline const Lanes<T>& load_lanes(const T* p) {
  return *reinterpret_cast<const Lanes<T>*>(p);
}
template <class T>
inline Lanes<T>& lanes_at(T* p) {
  return *reinterpret_cast<Lanes<T>*>(p);
}

// The sum of all elements of a vector, by halves.
template <class V, int... k>
inline auto sum_halves(const V& v, std::integer_sequence<int, k...>) {
  constexpr int half = sizeof...(k);
  if constexpr (half == 1) return v[0] + v[1];
  else return sum_halves(__builtin_shufflevector(v, v, k...) + __builtin_shufflevector(v, v, (k + half)...), std::make_integer_sequence<int, half / 2>());
}
template <class T>
inline T sum_lanes(const Lanes<T>& v) {
  return sum_halves(v, std::make_integer_sequence<int, lane_count<T> / 2>());
}

// Exchanges lane k + half of a with lane k of b, for each k without the bit `half`.
template <class V, int half, int... k>
inline void exchange_lanes(V& a, V& b, std::integer_sequence<int, k...>) {
  constexpr int lanes = sizeof...(k);
  const V low = __builtin_shufflevector(a, b, ((k & half) ? lanes + k - half : k)...);
  b = __builtin_shufflevector(a, b, ((k & half) ? lanes + k : k + half)...);
  a = low;
}
// The square of lane_count vectors becomes its transpose: 2 x 2 blocks of ever larger size are exchanged.
template <class T, int half = 1>
inline void transpose_lanes(Lanes<T>* square) {
  constexpr int lanes = lane_count<T>;
  if constexpr (half < lanes) {
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
      if ((i & half) == 0) exchange_lanes<Lanes<T>, half>(square[i], square[i + half], std::make_integer_sequence<int, lanes>());
    transpose_lanes<T, 2 * half>(square);
  }
}

// sum_k a[k] b[k]
template <class T>
inline T dot(std::int64_t n, const T* a, const T* b) {
  constexpr std::int64_t one = lane_count<T>;
  Lanes<T> sum[4] = {};
  std::int64_t k = 0;
  for (; k + 4 * one <= n; k += 4 * one)
    for (int m = 0; m < 4; ++m) sum[m] += load_lanes(a + k + m * one) * load_lanes(b + k + m * one);
  for (; k + one <= n; k += one) sum[0] += load_lanes(a + k) * load_lanes(b + k);
  T total = sum_lanes<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; k < n; ++k) total += a[k] * b[k];
  return total;
}

}  // namespace mblm
