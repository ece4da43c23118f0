// What the CPU kernels share: element types, registration, tiles of rows.
#pragma once

#include "engine/kernel.h"
#include "engine/kernel_data.h"
#include "engine/parallel.h"

namespace mblm {

// Runs f.operator()<T>() for float or double; throws DTypeError for anything else.
template <class F>
void for_real_type(const char* kernel, DType dtype, F&& f) {
  switch (dtype) {
    case DType::Float32: f.template operator()<float>(); return;
    case DType::Float64: f.template operator()<double>(); return;
    default: throw DTypeError(concat_text(kernel, ": expected float32 or float64, got ", dtype));
  }
}

// Fills the CPU's place of a slot with a kernel that takes float32 and float64.
template <class Slot>
bool add_cpu_kernel(Slot& slot, typename Slot::Function function) {
  return slot.add(DeviceKind::Cpu, {DType::Float32, DType::Float64}, function);
}

// Elements of one tile of elementwise work: 64 KiB of float32, a share of the L2 cache.
inline constexpr std::int64_t elementwise_tile = 16384;

// Rows of one tile of row-wise work: about elementwise_tile elements, at least one row. A function of the shape only.
inline std::int64_t rows_per_tile(std::int64_t width) { return std::max<std::int64_t>(1, elementwise_tile / std::max<std::int64_t>(1, width)); }

// Rows of one tile where each tile keeps a partial sum of `width` elements: as above, but at most 64 tiles.
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
