#include "ops/embedding.h"

#include "cpu/copy_rows.h"

namespace mblm {
namespace {

// Copies a row per position.
void forward(const Tensor& ids, const Tensor& table, Tensor& y) {
  const std::int64_t bytes = bytes_of(table, table.size(1));
  const std::int64_t* id = data<std::int64_t>(ids);
  const char* from = static_cast<const char*>(raw(table));
  char* to = static_cast<char*>(raw(y));
  parallel_tiles(ids.numel(), std::max<std::int64_t>(1, copy_tile_bytes / std::max<std::int64_t>(1, bytes)),
                 [&](std::int64_t begin, std::int64_t end, std::int64_t) {
                   for (std::int64_t i = begin; i < end; ++i) std::memcpy(to + i * bytes, from + id[i] * bytes, static_cast<std::size_t>(bytes));
                 });
}

// Columns of one tile: 256 rows then take 64 KiB of float32, a share of the L2 cache.
constexpr std::int64_t tile_columns = 64;

// One tile per block of columns, over all positions in order, so that no two threads write one row. The sums of a tile lie
// densely in `sums`: in the table itself, rows whose distance is a power of two would fall into few sets of the cache.
void backward(const Tensor& ids, const Tensor& dy, std::int64_t frozen_row, Tensor& dtable, float beta) {
  for_real_type("embedding_backward", dy.dtype(), [&]<class T>() {
    const std::int64_t positions = ids.numel(), rows = dtable.size(0), width = dtable.size(1);
    Tensor sums = empty(dtable.shape(), dtable.dtype());
    const std::int64_t* id = data<std::int64_t>(ids);
    const T* d = data<T>(dy);
    T *table = data<T>(dtable), *scratch = data<T>(sums);
    parallel_tiles(width, tile_columns, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      const std::int64_t columns = end - begin;
      T* sum = scratch + rows * begin;
      std::fill_n(sum, rows * columns, T(0));
      for (std::int64_t i = 0; i < positions; ++i) {
        if (id[i] == frozen_row) continue;
        const T* from = d + i * width + begin;
        T* to = sum + id[i] * columns;
#pragma omp simd
        for (std::int64_t c = 0; c < columns; ++c) to[c] += from[c];
      }
      for (std::int64_t row = 0; row < rows; ++row) {
        T* out = table + row * width + begin;
        for (std::int64_t c = 0; c < columns; ++c) out[c] = (beta == 0 ? T(0) : beta * out[c]) + sum[row * columns + c];
      }
    });
  });
}

const bool added = add_cpu_copy_kernel(embedding_forward, forward) && add_cpu_kernel(embedding_backward, backward);

}  // namespace
}  // namespace mblm
