#include "ops/embedding.h"

#include "cpu/kernel.h"

namespace mblm {
namespace {

// Copies one row per position.
void forward(const Tensor& ids, const Tensor& table, Tensor& y) {
  for_mixed_types("embedding_forward", table.dtype(), y.dtype(), [&]<class W, class Y>() {
    const std::int64_t width = table.size(1);
    const std::int64_t* id = data<std::int64_t>(ids);
    const W* rows = data<W>(table);
    Y* py = data<Y>(y);
    parallel_tiles(ids.numel(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t i = begin; i < end; ++i) {
        const W* from = rows + id[i] * width;
        Y* to = py + i * width;
#pragma omp simd
        for (std::int64_t j = 0; j < width; ++j) write(to[j], read(from[j]));
      }
    });
  });
}

// Columns of one tile: 256 rows of them take 64 KiB of float32, a share of the L2 cache.
constexpr std::int64_t tile_columns = 64;

// A tile is a block of columns for all positions, in order, so that no two threads add to the same element. The sums of a tile are
// contiguous in `sums`: in the table itself, rows at a power-of-two distance would map to few cache sets.
void backward(const Tensor& ids, const Tensor& dy, std::int64_t frozen_row, Tensor& dtable, float beta) {
  for_mixed_types("embedding_backward", dtable.dtype(), dy.dtype(), [&]<class W, class Y>() {
    using T = Real<W>;
    const std::int64_t positions = ids.numel(), rows = dtable.size(0), width = dtable.size(1);
    Tensor sums = empty(dtable.shape(), dtype_of<T>);
    const std::int64_t* id = data<std::int64_t>(ids);
    const Y* d = data<Y>(dy);
    W* table = data<W>(dtable);
    T* scratch = data<T>(sums);
    parallel_tiles(width, tile_columns, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      const std::int64_t columns = end - begin;
      T* sum = scratch + rows * begin;
      std::fill_n(sum, rows * columns, T(0));
      for (std::int64_t i = 0; i < positions; ++i) {
        if (id[i] == frozen_row) continue;
        const Y* from = d + i * width + begin;
        T* to = sum + id[i] * columns;
#pragma omp simd
        for (std::int64_t c = 0; c < columns; ++c) to[c] += read(from[c]);
      }
      for (std::int64_t row = 0; row < rows; ++row) {
        W* out = table + row * width + begin;
        for (std::int64_t c = 0; c < columns; ++c) write(out[c], (beta == 0 ? T(0) : beta * read(out[c])) + sum[row * columns + c]);
      }
    });
  });
}

const bool added =
    embedding_forward.add(DeviceKind::Cpu, floating_types, forward) && embedding_backward.add(DeviceKind::Cpu, floating_types, backward);

}  // namespace
}  // namespace mblm
