// The loops of the elementwise kernels.
#pragma once

#include "cpu/kernel.h"

namespace mblm {

// Runs f(i) for every element i < n: tiles in parallel, elements in vector lanes.
template <class F>
void for_each_element(std::int64_t n, F&& f) {
  parallel_tiles(n, elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) f(i);
  });
}

// Runs f(i, j) for every element i of a tensor of shape (O, R, D), where j is its element in the tensor (O, 1, D) that repeats R times.
// A run of elements has neighbouring j, or one j if D is 1.
template <class F>
void for_each_repeat(const Shape& shape, F&& f) {
  const std::int64_t repeats = shape[1], inner = shape[2];
  parallel_tiles(shape.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end;) {
      if (inner == 1) {
        const std::int64_t j = i / repeats, stop = std::min(end, (j + 1) * repeats);
#pragma omp simd
        for (std::int64_t at = i; at < stop; ++at) f(at, j);
        i = stop;
      } else {
        const std::int64_t row = i / inner, stop = std::min(end, (row + 1) * inner), shift = (row - row / repeats) * inner;
#pragma omp simd
        for (std::int64_t at = i; at < stop; ++at) f(at, at - shift);
        i = stop;
      }
    }
  });
}

// y = f(a, b) for the shapes and dtypes of a PairKernel (ops/broadcast.h). Memory bound: 12 bytes per element for equal float32 shapes.
template <class F>
void for_each_pair(const char* kernel, const Tensor& a, const Tensor& b, Tensor& y, F&& f) {
  for_mixed_types(kernel, a.dtype(), b.dtype(), [&]<class A, class B>() {
    using Y = std::conditional_t<std::is_same_v<A, bfloat16>, B, A>;  // the wider type
    const A* pa = data<A>(a);
    const B* pb = data<B>(b);
    Y* out = data<Y>(y);
    if (a.shape() == b.shape())
      for_each_element(y.numel(), [=](std::int64_t i) { write(out[i], f(read(pa[i]), read(pb[i]))); });
    else if (a.shape() == y.shape())
      for_each_repeat(y.shape(), [=](std::int64_t i, std::int64_t j) { write(out[i], f(read(pa[i]), read(pb[j]))); });
    else
      for_each_repeat(y.shape(), [=](std::int64_t i, std::int64_t j) { write(out[i], f(read(pa[j]), read(pb[i]))); });
  });
}

}  // namespace mblm
