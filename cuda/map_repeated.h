// Element-wise kernels with an operand that repeats: y = f(a, b) with y and a (O, R, D) and b (O, 1, D).
#pragma once

#include "cuda/map.h"

namespace mblm::cuda {

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

// The element of (O, 1, D) that element i of (O, R, D) uses. Divisions of 32 bits where they suffice: they take a fraction of the instructions.
__device__ __forceinline__ std::int64_t repeated_element(std::int64_t i, std::int64_t repeats, std::int64_t inner) {
  if ((static_cast<std::uint64_t>(i) | static_cast<std::uint64_t>(repeats) | static_cast<std::uint64_t>(inner)) >> 32 == 0) {
    const std::uint32_t row = static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(inner);
    return i - static_cast<std::int64_t>(row - row / static_cast<std::uint32_t>(repeats)) * inner;
  }
  const std::int64_t row = i / inner;
  return i - (row - row / repeats) * inner;
}

// A thread computes N neighbouring elements. Their elements of b are neighbours, too, which it reads at once (`rows`), or they are one
// element. Arithmetic is float32. Memory bound: a is read once, y written once; b comes from the caches.
template <int N, bool rows, class F, class Y, class B, class... A>
__global__ void __launch_bounds__(map_threads)
    map_repeated_elements(F f, std::int64_t n, std::int64_t repeats, std::int64_t inner, Y* y, const B* b, const A*... a) {
  const std::int64_t begin = (std::int64_t{blockIdx.x} * map_threads + threadIdx.x) * N;
  if (begin >= n) return;
  const B* from = b + repeated_element(begin, repeats, inner);
  float repeated[N];
  if constexpr (rows) {
    read_pack<N>(repeated, from);
  } else {
    const float one = to_float(*from);
#pragma unroll
    for (int j = 0; j < N; ++j) repeated[j] = one;
  }
  // A lambda turns the parameter pack of addresses into arrays of N values.
  [&](auto... read) {
    float out[N];
#pragma unroll
    for (int j = 0; j < N; ++j) out[j] = f(to_float(read.v[j])..., repeated[j]);
    write_pack<N>(y + begin, out);
  }(*reinterpret_cast<const Pack<A, N>*>(a + begin)...);
}

#endif

// Starts the kernel for y of that shape (O, R, D). F is trivially copyable and has `__device__ float operator()(float a, ..., float b) const`.
// Packs need whole rows of them, or whole runs of one element of b.
template <class F, class Y, class B, class... A>
void map_repeated(const F& f, const Shape& shape, Y* y, const B* b, const A*... a) {
  constexpr int N = bytes_per_access / std::max({sizeof(Y), sizeof(B), sizeof(A)...});
  const std::int64_t n = shape.numel(), repeats = shape[1], inner = shape[2];
  const unsigned blocks = blocks_for(n, std::int64_t{N} * map_threads);
  const bool aligned = is_aligned(y, N * sizeof(Y)) && (is_aligned(a, N * sizeof(A)) && ...);
  if (aligned && inner % N == 0 && is_aligned(b, N * sizeof(B)))
    launch<map_repeated_elements<N, true, F, Y, B, A...>>(blocks, map_threads, 0, f, n, repeats, inner, y, b, a...);
  else if (aligned && inner == 1 && repeats % N == 0)
    launch<map_repeated_elements<N, false, F, Y, B, A...>>(blocks, map_threads, 0, f, n, repeats, inner, y, b, a...);
  else
    launch<map_repeated_elements<1, false, F, Y, B, A...>>(blocks_for(n, map_threads), map_threads, 0, f, n, repeats, inner, y, b, a...);
}

// f with its arguments exchanged, for a repeated first operand.
template <class F>
struct Exchanged {
  F f;
#if defined(__CUDACC__) || defined(EMULATED_CUDA)
  __device__ float operator()(float b, float a) const { return f(a, b); }
#endif
};

// y = f(a, b) for the shapes and dtypes of a PairKernel (ops/broadcast.h). float32 and equal shapes: 12 bytes per element.
// `commutes`: f(a, b) = f(b, a), so that one kernel serves both operands.
template <bool commutes, class F>
void map_pair(const char* kernel, const F& f, const Tensor& a, const Tensor& b, Tensor& y) {
  for_element_types(kernel, a.dtype(), b.dtype(), [&]<class A, class B>() {
    using Y = std::conditional_t<std::is_same_v<A, bfloat16>, B, A>;  // the wider type
    if (a.shape() == b.shape())
      map(f, y.numel(), data<Y>(y), data<A>(a), data<B>(b));
    else if (a.shape() == y.shape())
      map_repeated(f, y.shape(), data<Y>(y), data<B>(b), data<A>(a));
    else if constexpr (commutes)
      map_repeated(f, y.shape(), data<Y>(y), data<A>(a), data<B>(b));
    else
      map_repeated(Exchanged<F>{f}, y.shape(), data<Y>(y), data<A>(a), data<B>(b));
  });
}

}  // namespace mblm::cuda
