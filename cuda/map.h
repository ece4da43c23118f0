// The one kernel of element-wise ops: y[i] = f(x0[i], x1[i], ...), for float32 and bfloat16 arrays in any combination.
#pragma once

#include <type_traits>

#include "cuda/kernel.h"

namespace mblm::cuda {

inline constexpr unsigned map_threads = 256;
inline constexpr int bytes_per_access = 16;  // of the widest array; narrower arrays use smaller accesses

// The arrays that a map writes. With several, f returns Floats of as many values.
template <class... Y>
struct Outputs;
template <class Y>
struct Outputs<Y> {
  Y* first;
};
template <class Y, class Y2>
struct Outputs<Y, Y2> {
  Y* first;
  Y2* second;
};
struct TwoFloats {
  float first, second;
};

// What f gets as its index: nothing unless it takes an index, the index of the element, or its column in rows of `width` elements.
struct ElementIndex {
#if defined(__CUDACC__) || defined(EMULATED_CUDA)
  __device__ std::int64_t at(std::int64_t i) const { return i; }
  __device__ std::int64_t after(std::int64_t i) const { return i + 1; }
#endif
};
struct ColumnIndex {
  std::int64_t width;
#if defined(__CUDACC__) || defined(EMULATED_CUDA)
  // A division of 32 bits where it suffices: it takes a fraction of the instructions.
  __device__ std::int64_t at(std::int64_t i) const {
    if ((static_cast<std::uint64_t>(i) | static_cast<std::uint64_t>(width)) >> 32 == 0) return static_cast<std::uint32_t>(i) % static_cast<std::uint32_t>(width);
    return i % width;
  }
  __device__ std::int64_t after(std::int64_t column) const { return column + 1 == width ? 0 : column + 1; }
#endif
};

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

template <class F, class... X>
__device__ __forceinline__ auto map_element(const F& f, std::int64_t index, X... x) {
  if constexpr (std::is_invocable_v<const F&, std::int64_t, X...>)
    return f(index, x...);
  else
    return f(x...);
}

template <class Y>
__device__ __forceinline__ void write_element(const Outputs<Y>& y, std::int64_t i, float value) {
  y.first[i] = from_float<Y>(value);
}
template <class Y, class Y2>
__device__ __forceinline__ void write_element(const Outputs<Y, Y2>& y, std::int64_t i, TwoFloats value) {
  y.first[i] = from_float<Y>(value.first);
  y.second[i] = from_float<Y2>(value.second);
}
template <int N, class Y>
__device__ __forceinline__ void write_elements(const Outputs<Y>& y, std::int64_t i, const float (&values)[N]) {
  write_pack<N>(y.first + i, values);
}
template <int N, class Y, class Y2>
__device__ __forceinline__ void write_elements(const Outputs<Y, Y2>& y, std::int64_t i, const TwoFloats (&values)[N]) {
  float first[N], second[N];
#pragma unroll
  for (int j = 0; j < N; ++j) {
    first[j] = values[j].first;
    second[j] = values[j].second;
  }
  write_pack<N>(y.first + i, first);
  write_pack<N>(y.second + i, second);
}

// A thread computes N neighbouring elements; the thread after the last full pack computes the remaining ones. Arithmetic is float32.
// Memory bound: every array is read or written once. The index is computed once per pack and then advanced.
template <int N, class Index, class F, class To, class... X>
__global__ void __launch_bounds__(map_threads) map_elements(F f, Index index_of, std::int64_t n, To y, const X*... x) {
  const std::int64_t pack = std::int64_t{blockIdx.x} * map_threads + threadIdx.x, begin = pack * N;
  if (begin >= n) return;
  std::int64_t index = index_of.at(begin);
  if (begin + N <= n) {
    // A lambda turns the parameter pack of addresses into arrays of N values.
    [&](auto... read) {
      decltype(map_element(f, index, to_float(read.v[0])...)) out[N];
#pragma unroll
      for (int j = 0; j < N; ++j) {
        out[j] = map_element(f, index, to_float(read.v[j])...);
        index = index_of.after(index);
      }
      write_elements<N>(y, begin, out);
    }(*reinterpret_cast<const Pack<X, N>*>(x + begin)...);
    return;
  }
  for (std::int64_t i = begin; i < n; ++i) {
    write_element(y, i, map_element(f, index, to_float(x[i])...));
    index = index_of.after(index);
  }
}

#endif

template <int N, class Y>
bool outputs_are_aligned(const Outputs<Y>& y) {
  return is_aligned(y.first, N * sizeof(Y));
}
template <int N, class Y, class Y2>
bool outputs_are_aligned(const Outputs<Y, Y2>& y) {
  return is_aligned(y.first, N * sizeof(Y)) && is_aligned(y.second, N * sizeof(Y2));
}

// Starts the kernel for n elements. F is trivially copyable and has `__device__ float operator()(float x0, ...) const` (TwoFloats for
// two outputs), with an additional first argument `std::int64_t i` if it needs the index. Outputs may be inputs.
template <class F, class Index, class... Y, class... X>
void map_indexed(const F& f, const Index& index, std::int64_t n, const Outputs<Y...>& y, const X*... x) {
  constexpr int N = bytes_per_access / std::max({sizeof(Y)..., sizeof(X)...});
  const bool aligned = outputs_are_aligned<N>(y) && (is_aligned(x, N * sizeof(X)) && ...);
  if (aligned)
    launch<map_elements<N, Index, F, Outputs<Y...>, X...>>(blocks_for(n, std::int64_t{N} * map_threads), map_threads, 0, f, index, n, y, x...);
  else
    launch<map_elements<1, Index, F, Outputs<Y...>, X...>>(blocks_for(n, map_threads), map_threads, 0, f, index, n, y, x...);
}

// One output; the index of f is that of the element.
template <class F, class Y, class... X>
void map(const F& f, std::int64_t n, Y* y, const X*... x) {
  map_indexed(f, ElementIndex{}, n, Outputs<Y>{y}, x...);
}
// Two outputs.
template <class F, class Y, class Y2, class... X>
void map(const F& f, std::int64_t n, const Outputs<Y, Y2>& y, const X*... x) {
  map_indexed(f, ElementIndex{}, n, y, x...);
}
// The arrays are rows of `width` elements; the index of f is the column.
template <class F, class Y, class... X>
void map_columns(const F& f, std::int64_t n, std::int64_t width, Y* y, const X*... x) {
  map_indexed(f, ColumnIndex{width}, n, Outputs<Y>{y}, x...);
}

}  // namespace mblm::cuda
