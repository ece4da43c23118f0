#include "ops/linear.h"

#include "cpu/kernel.h"

namespace mblm {
namespace {

// Each tile of rows sums its columns; the sums of the tiles are added in order. Memory bound: one pass over x.
void sum_columns(const Tensor& x, Tensor& out, float beta) {
  for_real_type("column_sums", x.dtype(), [&]<class T>() {
    const std::int64_t rows = x.size(0), width = x.size(1), tile_rows = rows_per_partial(rows, width);
    Tensor partials = zeros(Shape{tile_count(rows, tile_rows), width}, x.dtype());
    const T* px = data<T>(x);
    T* pp = data<T>(partials);
    parallel_tiles(rows, tile_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t tile) {
      T* sum = pp + tile * width;
      for (std::int64_t row = begin; row < end; ++row) {
        const T* in = px + row * width;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) sum[i] += in[i];
      }
    });
    add_partials(partials, data<T>(out), beta);
  });
}

const bool added = add_cpu_kernel(column_sums, sum_columns);

}  // namespace
}  // namespace mblm
