// Vectors of the processor's width, for loops that the compiler does not find by itself.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace mblm {

#ifdef __AVX512F__
inline constexpr int vector_bytes = 64;
#else
inline constexpr int vector_bytes = 32;
#endif

template <class T>
struct LanesOf {
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

// The first `count` lanes, the others zero.
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

namespace detail {

// Lane i of the result: a[i] + a[i ^ width] where i has no bit `width`, else b[i] + b[i ^ width].
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

// Lane r of the result is the sum of the lanes of x[r]; x has lane_count vectors and is used up. A tree of halvings: two
// vectors become one at each step, three instructions per sum where a sum of its own takes a dozen.
template <class T, int width = lane_count<T> / 2>
inline Lanes<T> sum_each(Lanes<T>* x) {
  detail::fold_all<width, T>(x, std::make_integer_sequence<int, width>{});
  if constexpr (width > 1)
    return sum_each<T, width / 2>(x);
  else
    return x[0];
}

}  // namespace mblm
