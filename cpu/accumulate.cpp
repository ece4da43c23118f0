#include "cpu/kernel.h"
#include "engine/autograd.h"

namespace mblm {
namespace {

// Memory bound: 12 bytes and one addition per element.
void accumulate_cpu(Tensor& sum, const Tensor& x) {
  for_real_type("accumulate", sum.dtype(), [&]<class T>() {
    T* s = data<T>(sum);
    const T* v = data<T>(x);
    parallel_tiles(sum.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) s[i] += v[i];
    });
  });
}

void fill_cpu(Tensor& x, double value) {
  for_real_type("fill", x.dtype(), [&]<class T>() { std::fill_n(data<T>(x), x.numel(), static_cast<T>(value)); });
}

const bool added = add_cpu_kernel(accumulate, accumulate_cpu) && add_cpu_kernel(fill, fill_cpu);

}  // namespace
}  // namespace mblm
