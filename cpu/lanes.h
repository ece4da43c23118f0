// Vectors of the processor's width, for loops that the compiler does not vectorise.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#ifdef __FMA__
#include <immintrin.h>
#endif

#include "engine/dtype.h"

namespace mblm {

#ifdef __AVX512F__
inline constexpr int vector_bytes = 64;
#else
inline constexpr int vector_bytes = 32;
#endif

template <class T>
struct LanesOf {};  // no vectors of bfloat16: its functions are below
template <class T>
  requires std::is_arithmetic_v<T>
struct LanesOf<T> {
  typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Lanes = typename LanesOf<T>::type;
template <class T>
inline constexpr int lane_count = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
inline Lanes<T> load(const T* from) {
  Lanes<T> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <class T>
inline void store(T* to, Lanes<T> x) {
  std::memcpy(to, &x, sizeof x);
}

// Loads the first `count` lanes; the other lanes are zero.
template <class T>
inline Lanes<T> load_first(const T* from, std::int64_t count) {
  Lanes<T> x{};
  std::memcpy(&x, from, static_cast<std::size_t>(count) * sizeof(T));
  return x;
}
template <class T>
inline void store_first(T* to, Lanes<T> x, std::int64_t count) {
  std::memcpy(to, &x, static_cast<std::size_t>(count) * sizeof(T));
}

// a b + c with one rounding where the processor has the instruction. Kernels of inference use it, because the compiler decides loop by
// loop whether it fuses a product and a sum.
inline Lanes<float> multiply_add(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}
inline Lanes<double> multiply_add(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

// The same for bfloat16 elements, whose numbers are float32. Stores round to nearest even and keep NaN.
using BFloat16Lanes = std::uint16_t __attribute__((vector_size(vector_bytes / 2)));
inline Lanes<float> widen(BFloat16Lanes x) {
  return std::bit_cast<Lanes<float>>(__builtin_convertvector(x, Lanes<std::uint32_t>) << 16);
}
inline BFloat16Lanes narrow(Lanes<float> x) {
  const auto u = std::bit_cast<Lanes<std::uint32_t>>(x);
  const Lanes<std::uint32_t> rounded = u + 0x7fffu + ((u >> 16) & 1u), quiet = u | 0x400000u;
  return __builtin_convertvector((x != x ? quiet : rounded) >> 16, BFloat16Lanes);
}
inline Lanes<float> load(const bfloat16* from) {
  BFloat16Lanes x;
  std::memcpy(&x, from, sizeof x);
  return widen(x);
}
inline Lanes<float> load_first(const bfloat16* from, std::int64_t count) {
  BFloat16Lanes x{};
  std::memcpy(&x, from, static_cast<std::size_t>(count) * sizeof(bfloat16));
  return widen(x);
}
inline void store(bfloat16* to, Lanes<float> x) {
  const BFloat16Lanes bits = narrow(x);
  std::memcpy(static_cast<void*>(to), &bits, sizeof bits);
}
inline void store_first(bfloat16* to, Lanes<float> x, std::int64_t count) {
  const BFloat16Lanes bits = narrow(x);
  std::memcpy(static_cast<void*>(to), &bits, static_cast<std::size_t>(count) * sizeof(bfloat16));
}

namespace detail {

// Lane i of the result: a[i] + a[i ^ width] if i does not have the bit `width`, else b[i] + b[i ^ width].
template <int width, class T, int... i>
inline Lanes<T> fold_pair(Lanes<T> a, Lanes<T> b, std::integer_sequence<int, i...>) {
  constexpr int lanes = sizeof...(i);
  return __builtin_shufflevector(a, b, ((i & width) != 0 ? lanes + i : i)...) +
         __builtin_shufflevector(a, b, ((i & width) != 0 ? lanes + (i ^ width) : i ^ width)...);
}

template <int width, class T, int... r>
inline void fold_all(Lanes<T>* x, std::integer_sequence<int, r...>) {
  ((x[r] = fold_pair<width, T>(x[r], x[r + width], std::make_integer_sequence<int, lane_count<T>>{})), ...);
}

}  // namespace detail

// Lane r of the result is the sum of the lanes of x[r]; x has lane_count vectors and is overwritten. Each step folds two vectors
// into one, which takes three instructions per sum; a separate sum takes a dozen.
template <class T, int width = lane_count<T> / 2>
inline Lanes<T> sum_each(Lanes<T>* x) {
  detail::fold_all<width, T>(x, std::make_integer_sequence<int, width>{});
  if constexpr (width > 1)
    return sum_each<T, width / 2>(x);
  else
    return x[0];
}

namespace detail {

// Swaps lane i + half of a with lane i of b, for each i without the bit `half`.
template <int half, class T, int... i>
inline void exchange_lanes(Lanes<T>& a, Lanes<T>& b, std::integer_sequence<int, i...>) {
  constexpr int lanes = sizeof...(i);
  const Lanes<T> low = __builtin_shufflevector(a, b, ((i & half) != 0 ? lanes + i - half : i)...);
  b = __builtin_shufflevector(a, b, ((i & half) != 0 ? lanes + i : i + half)...);
  a = low;
}

}  // namespace detail

// Transposes the square x of lane_count vectors: pairs of vectors swap blocks, whose size doubles at each step.
template <class T, int half = 1>
inline void transpose_lanes(Lanes<T>* x) {
  if constexpr (half < lane_count<T>) {
#pragma GCC unroll 16
    for (int r = 0; r < lane_count<T>; ++r)
      if ((r & half) == 0) detail::exchange_lanes<half, T>(x[r], x[r + half], std::make_integer_sequence<int, lane_count<T>>{});
    transpose_lanes<T, 2 * half>(x);
  }
}

namespace detail {

template <int width, class T, int... i>
inline Lanes<T> swap_lanes(Lanes<T> x, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(x, x, (i ^ width)...);
}

// Reduces all lanes with `combine`; every lane of the result has the value.
template <class T, int width = lane_count<T> / 2, class F>
inline Lanes<T> reduce(Lanes<T> x, F&& combine) {
  x = combine(x, swap_lanes<width, T>(x, std::make_integer_sequence<int, lane_count<T>>{}));
  if constexpr (width > 1)
    return reduce<T, width / 2>(x, combine);
  else
    return x;
}

}  // namespace detail

template <class T>
inline T lane_sum(Lanes<T> x) {
  return detail::reduce<T>(x, [](Lanes<T> a, Lanes<T> b) { return a + b; })[0];
}

// Sum, largest element and inner product of n elements. A `simd reduction` loop combines its lanes one by one; these functions
// combine them in a tree, which matters for short rows.
template <class T>
inline T row_sum(const T* x, std::int64_t n) {
  Lanes<T> sum{};
  std::int64_t i = 0;
  for (; i + lane_count<T> <= n; i += lane_count<T>) sum += load(x + i);
  if (i < n) sum += load_first(x + i, n - i);
  return lane_sum<T>(sum);
}

template <class T>
inline T row_max(const T* x, std::int64_t n) {
  T rest = x[0];
  Lanes<T> largest = Lanes<T>{} + rest;
  std::int64_t i = 0;
  for (; i + lane_count<T> <= n; i += lane_count<T>) {
    const Lanes<T> part = load(x + i);
    largest = part > largest ? part : largest;
  }
  for (i = n - n % lane_count<T>; i < n; ++i) rest = x[i] > rest ? x[i] : rest;
  const T best = detail::reduce<T>(largest, [](Lanes<T> a, Lanes<T> b) { return a > b ? a : b; })[0];
  return best > rest ? best : rest;
}

template <class T>
inline T row_dot(const T* x, const T* y, std::int64_t n) {
  Lanes<T> sum{};
  std::int64_t i = 0;
  for (; i + lane_count<T> <= n; i += lane_count<T>) sum += load(x + i) * load(y + i);
  if (i < n) sum += load_first(x + i, n - i) * load_first(y + i, n - i);
  return lane_sum<T>(sum);
}

// 2^x for x <= 127, for kernels that hold a recurrence in vector registers (for a loop over lanes, the compiler keeps such values in
// memory). Near-minimax polynomial of degree 6 on [-1/2, 1/2]; the lowest bits of the sum with 1.5 2^23 hold the rounded x. The error
// is below 1.2 units in the last place. The result is 0 below -126.5; NaN stays NaN.
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

}  // namespace mblm
