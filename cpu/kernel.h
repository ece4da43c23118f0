// Shared by the CPU kernels: element types, registration, tiles of rows.
#pragma once

#include <vector>

#include "engine/kernel.h"
#include "engine/kernel_data.h"
#include "engine/parallel.h"

namespace mblm {

// Runs f.operator()<T>() for float or double; throws DTypeError for another dtype.
template <class F>
void for_real_type(const char* kernel, DType dtype, F&& f) {
  switch (dtype) {
    case DType::Float32: f.template operator()<float>(); return;
    case DType::Float64: f.template operator()<double>(); return;
    default: throw DTypeError(concat_text(kernel, ": expected float32 or float64, got ", dtype));
  }
}

// Runs f.operator()<T>() for float, double or bfloat16; throws DTypeError for another dtype.
template <class F>
void for_floating_type(const char* kernel, DType dtype, F&& f) {
  require<DTypeError>(is_floating(dtype), kernel, ": expected floating elements, got ", dtype);
  if (dtype == DType::BFloat16)
    f.template operator()<bfloat16>();
  else
    for_real_type(kernel, dtype, f);
}

// The type of the arithmetic on elements of type T.
template <class T>
using Real = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;

// Runs f.operator()<A, B>() for float32 and bfloat16 in any combination, or float64 for both; throws DTypeError otherwise.
template <class F>
void for_mixed_types(const char* kernel, DType a, DType b, F&& f) {
  for_floating_type(kernel, a, [&]<class A>() {
    for_floating_type(kernel, b, [&]<class B>() {
      if constexpr (std::is_same_v<Real<A>, Real<B>>)
        f.template operator()<A, B>();
      else
        throw DTypeError(concat_text(kernel, ": expected float64 for both tensors or for neither, got ", a, " and ", b));
    });
  });
}

// Conversions between elements and numbers. `write` stores the bits of a bfloat16, because GCC does not vectorise a loop that
// assigns structs.
template <class T>
inline Real<T> read(const T& element) {
  return static_cast<Real<T>>(element);
}
template <class T, class Number>
inline void write(T& element, Number number) {
  if constexpr (std::is_same_v<T, bfloat16>)
    element.bits = bfloat16(static_cast<float>(number)).bits;
  else
    element = static_cast<T>(number);
}

// to[i] = from[i] in the type of `to`.
template <class From, class To>
inline void convert_row(const From* from, To* to, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) write(to[i], read(from[i]));
}

// Gives kernels rows of numbers: rows of float or double are used in place, rows of bfloat16 are converted in a buffer of `width`
// elements. A call may convert fewer elements.
template <class T>
class RowBuffer {
 public:
  explicit RowBuffer(std::int64_t width) : width_(width) {
    if constexpr (!in_place) {
      memory_ = empty(Shape{width}, dtype_of<Real<T>>);
      buffer_ = data<Real<T>>(memory_);
    }
  }

  // The numbers of a row to read; valid until the next call.
  const Real<T>* read_row(const T* row) { return read_row(row, width_); }
  const Real<T>* read_row(const T* row, std::int64_t count) {
    if constexpr (in_place) {
      return row;
    } else {
      convert_row(row, buffer_, count);
      return buffer_;
    }
  }
  // Memory for the numbers of a row to write. finish_row stores them in the row.
  Real<T>* start_row(T* row) {
    if constexpr (in_place)
      return row;
    else
      return buffer_;
  }
  void finish_row(T* row) { finish_row(row, width_); }
  void finish_row(T* row, std::int64_t count) {
    if constexpr (!in_place) convert_row(buffer_, row, count);
  }

 private:
  static constexpr bool in_place = std::is_same_v<T, Real<T>>;
  std::int64_t width_;
  Tensor memory_;
  Real<T>* buffer_ = nullptr;
};

// Address of the first element; null for an undefined tensor.
template <class T>
T* data_or_null(Tensor& x) {
  return x.defined() ? data<T>(x) : nullptr;
}
template <class T>
const T* data_or_null(const Tensor& x) {
  return x.defined() ? data<T>(x) : nullptr;
}

inline constexpr std::initializer_list<DType> floating_types = {DType::Float32, DType::Float64, DType::BFloat16};

// Registers a CPU kernel that takes float32 and float64.
template <class Slot>
bool add_cpu_kernel(Slot& slot, typename Slot::Function function) {
  return slot.add(DeviceKind::Cpu, {DType::Float32, DType::Float64}, function);
}

// The same for a kernel that also takes bfloat16.
template <class Slot>
bool add_cpu_floating_kernel(Slot& slot, typename Slot::Function function) {
  return slot.add(DeviceKind::Cpu, floating_types, function);
}

// Elements of one tile of elementwise work: 64 KiB of float32, a share of the L2 cache.
inline constexpr std::int64_t elementwise_tile = 16384;

// x in the type of the arithmetic on its elements: x itself unless it is bfloat16. An undefined tensor stays undefined.
inline Tensor widened(const Tensor& x) {
  if (!x.defined() || x.dtype() != DType::BFloat16) return x;
  Tensor wide = empty(x.shape(), DType::Float32);
  const bfloat16* from = data<bfloat16>(x);
  float* to = data<float>(wide);
  parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) { convert_row(from + begin, to + begin, end - begin); });
  return wide;
}

// A result that a kernel computes in the type of the arithmetic: x itself unless it is bfloat16. store_wide rounds it to x.
inline Tensor wide_like(const Tensor& x) { return x.dtype() == DType::BFloat16 ? empty(x.shape(), DType::Float32) : x; }
inline void store_wide(const Tensor& wide, Tensor& x) {
  if (x.dtype() != DType::BFloat16) return;
  const float* from = data<float>(wide);
  bfloat16* to = data<bfloat16>(x);
  parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) { convert_row(from + begin, to + begin, end - begin); });
}

// Rows of one tile of row-wise work: about elementwise_tile elements, at least one row. Depends on the shape only.
inline std::int64_t rows_per_tile(std::int64_t width) { return std::max<std::int64_t>(1, elementwise_tile / std::max<std::int64_t>(1, width)); }

// Rows of one tile if each tile has a partial sum of `width` elements: as above, but at most 64 tiles.
inline std::int64_t rows_per_partial(std::int64_t rows, std::int64_t width) { return std::max(rows_per_tile(width), tile_count(rows, 64)); }

// out = beta out + the partial sums (tiles, width), added in tile order.
template <class T>
void add_partials(const Tensor& partials, T* out, float beta) {
  const std::int64_t tiles = partials.size(0), width = partials.size(1);
  const T* p = data<T>(partials);
  parallel_tiles(width, 1024, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    if (beta == 0) std::fill(out + begin, out + end, T(0));
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) out[i] += p[tile * width + i];
    }
  });
}

}  // namespace mblm
