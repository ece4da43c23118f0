// Explicit vectors, for loops that keep their sums in registers: the compiler spills those of `#pragma omp simd`, and adds up the
// lanes of a reduction one by one.
#pragma once

#include <cstdint>

namespace mblm {

// 64 bytes of elements at any address.
template <class T>
using Lanes [[gnu::vector_size(64), gnu::aligned(alignof(T)), gnu::may_alias]] = T;
template <class T>
inline constexpr std::int64_t lane_count = 64 / sizeof(T);

template <class T>
inline const Lanes<T>& load_lanes(const T* p) {
  return *reinterpret_cast<const Lanes<T>*>(p);
}
template <class T>
inline Lanes<T>& lanes_at(T* p) {
  return *reinterpret_cast<Lanes<T>*>(p);
}

// The sum of all lanes, by halves.
inline double sum_lanes(const Lanes<double>& v) {
  const auto a = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
  return (a[0] + a[2]) + (a[1] + a[3]);
}
inline float sum_lanes(const Lanes<float>& v) {
  const auto a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  const auto c = b + __builtin_shufflevector(b, b, 2, 3, 0, 1);
  return c[0] + c[1];
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
  T total = sum_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; k < n; ++k) total += a[k] * b[k];
  return total;
}

}  // namespace mblm
