#include "ops/cast.h"

#include "cpu/kernel.h"

namespace mblm {
namespace {

// Runs f.operator()<T>() for float, double or bfloat16.
template <class F>
void for_floating_type(const char* kernel, DType dtype, F&& f) {
  if (dtype == DType::BFloat16) {
    f.template operator()<bfloat16>();
  } else {
    for_real_type(kernel, dtype, f);
  }
}

// to = from; a bfloat16 is reached through float32, and written as bits, since a loop over assignments of a struct is not
// vectorised.
template <class To, class From>
inline void convert(const From& from, To& to) {
  if constexpr (std::is_same_v<To, bfloat16>) {
    to.bits = bfloat16(static_cast<float>(from)).bits;
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    to = static_cast<To>(static_cast<float>(from));
  } else {
    to = static_cast<To>(from);
  }
}

void cast_elements(const Tensor& x, Tensor& y) {
  for_floating_type("cast", x.dtype(), [&]<class From>() {
    for_floating_type("cast", y.dtype(), [&]<class To>() {
      const From* in = data<From>(x);
      To* out = data<To>(y);
      parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) convert(in[i], out[i]);
      });
    });
  });
}

// The factor is rounded to the element type.
void scale_elements(const Tensor& x, double factor, Tensor& y) {
  for_real_type("scale", x.dtype(), [&]<class T>() {
    const T *in = data<T>(x), f = static_cast<T>(factor);
    T* out = data<T>(y);
    parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) out[i] = f * in[i];
    });
  });
}

const bool added = cast_kernel.add(DeviceKind::Cpu, {DType::Float32, DType::Float64, DType::BFloat16}, cast_elements) &&
                   add_cpu_kernel(scale_kernel, scale_elements);

}  // namespace
}  // namespace mblm
