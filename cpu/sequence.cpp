#include "ops/sequence.h"

#include <functional>
#include <numeric>

#include "cpu/copy_rows.h"

namespace mblm {
namespace {

// out = x + positions + above; positions and above may be null.
template <class X, class A, class T>
void add_rows(const X* x, const T* positions, const A* above, T* out, std::int64_t width) {
  if (positions != nullptr && above != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) out[i] = read(x[i]) + positions[i] + read(above[i]);
  } else if (positions != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) out[i] = read(x[i]) + positions[i];
  } else if (above != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) out[i] = read(x[i]) + read(above[i]);
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) out[i] = read(x[i]);
  }
}

// Computes y row by row. Memory bound.
void stage_input(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, const Tensor& offsets, Tensor& y) {
  const Tensor wide_start = widened(start), wide_positions = widened(positions);  // parameters, which are wide already
  for_mixed_types("stage_input_forward", x.dtype(), above.defined() ? above.dtype() : x.dtype(), [&]<class X, class A>() {
    using T = Real<X>;
    const std::int64_t width = x.size(2), start_rows = start.defined() ? 1 : 0, rows = y.size(1);
    const T *ps = data_or_null<T>(wide_start), *pp = data_or_null<T>(wide_positions);
    const X* px = data<X>(x);
    const A* pa = data_or_null<A>(above);
    const std::int64_t* offset = offsets.defined() ? data<std::int64_t>(offsets) : nullptr;
    T* py = data<T>(y);
    parallel_tiles(y.size(0) * rows, rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t b = row / rows, t = row % rows, position = (offset == nullptr ? 0 : offset[b]) + t - start_rows;
        T* out = py + row * width;
        if (position < 0) {
          std::copy_n(ps, width, out);
        } else {
          const std::int64_t from = (offset == nullptr ? row - (b + 1) * start_rows : row) * width;
          add_rows(px + from, pp == nullptr ? nullptr : pp + position * width, pa == nullptr ? nullptr : pa + from, out, width);
        }
      }
    });
  });
}

// Copies rows [from_begin, from_begin + count) of each sequence to rows from to_begin on: one run of bytes per sequence.
void copy(const Tensor& from, std::int64_t from_begin, Tensor& to, std::int64_t to_begin, std::int64_t count) {
  const std::int64_t row = std::accumulate(from.shape().begin() + 2, from.shape().end(), bytes_of(from, 1), std::multiplies<>());
  copy_rows(static_cast<char*>(raw(to)) + to_begin * row, to.size(1) * row, static_cast<const char*>(raw(from)) + from_begin * row,
            from.size(1) * row, from.size(0), count * row);
}

void stage_input_gradient(const Tensor& dy, bool has_start, Tensor& dx) { copy(dy, has_start ? 1 : 0, dx, 0, dx.size(1)); }

// out[i] += sum over b in [begin, end) of from[b stride + i], for i < width.
template <class T>
void add_batches(const T* from, std::int64_t stride, std::int64_t begin, std::int64_t end, std::int64_t width, Real<T>* out) {
  for (std::int64_t b = begin; b < end; ++b) {
    const T* row = from + b * stride;
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) out[i] += read(row[i]);
  }
}

// Elements of `out` from which the columns alone are enough work for all threads.
constexpr std::int64_t wide_batch = 8192;
constexpr std::int64_t tile_columns = 1024;

// A tile sums a block of columns over the whole batch if `out` is large, else all columns over a block of sequences.
// A bfloat16 result is summed in float32 and rounded once.
void batch_sum(const Tensor& dy, std::int64_t first, Tensor& out, float beta) {
  if (out.dtype() == DType::BFloat16) {
    Tensor sums = widened(out);
    batch_sum(dy, first, sums, beta);
    store_wide(sums, out);
    return;
  }
  for_floating_type("sum_over_batch", dy.dtype(), [&]<class E>() {
    using T = Real<E>;
    const std::int64_t batches = dy.size(0), stride = dy.size(1) * dy.size(2), width = out.numel();
    const E* from = data<E>(dy) + first * dy.size(2);
    T* to = data<T>(out);
    if (width >= wide_batch) {
      parallel_tiles(width, tile_columns, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
        if (beta == 0) std::fill(to + begin, to + end, T(0));
        add_batches<E>(from + begin, stride, 0, batches, end - begin, to + begin);
      });
      return;
    }
    const std::int64_t tile_rows = rows_per_partial(batches, width);
    Tensor partials = zeros(Shape{tile_count(batches, tile_rows), width}, dtype_of<T>);
    T* sums = data<T>(partials);
    parallel_tiles(batches, tile_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t tile) {
      add_batches<E>(from, stride, begin, end, width, sums + tile * width);
    });
    add_partials(partials, to, beta);
  });
}

// The rows of one patch that flatten_patches uses: `count` rows, from row `in_patch` of the patch and from row `in_sequence` of the
// flattened result. The output of the start token is used from the first patch only.
struct PatchRows {
  std::int64_t in_patch, in_sequence, count;
};
PatchRows taken_rows(std::int64_t patch, std::int64_t patch_rows, std::int64_t first, std::int64_t count) {
  const std::int64_t flat_zero = patch * (patch_rows - 1);  // flat row of row 0 of the patch
  const std::int64_t begin = std::max(first, patch == 0 ? 0 : flat_zero + 1), end = std::min(first + count, flat_zero + patch_rows);
  return {begin - flat_zero, begin - first, std::max<std::int64_t>(0, end - begin)};
}

// Runs f(patch, sequence, rows) for each patch of x (B, P, 1 + T, D), with the addresses of the patch and of its rows in y.
template <class F>
void for_each_patch(const Tensor& x, const Tensor& y, std::int64_t first, F&& f) {
  const std::int64_t patches = x.size(1), patch_rows = x.size(2), row = bytes_of(x, x.size(3)), count = y.size(1);
  char *px = static_cast<char*>(raw(x)), *py = static_cast<char*>(raw(y));
  parallel_tiles(x.size(0) * patches, std::max<std::int64_t>(1, copy_tile_bytes / std::max<std::int64_t>(1, patch_rows * row)),
                 [&](std::int64_t begin, std::int64_t end, std::int64_t) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     const PatchRows rows = taken_rows(i % patches, patch_rows, first, count);
                     f(px + i * patch_rows * row, py + (i / patches * count + rows.in_sequence) * row, rows);
                   }
                 });
}

void flatten(const Tensor& x, std::int64_t first, Tensor& y) {
  const std::int64_t row = bytes_of(x, x.size(3));
  for_each_patch(x, y, first, [=](const char* patch, char* sequence, const PatchRows& rows) {
    if (rows.count > 0) std::memcpy(sequence, patch + rows.in_patch * row, static_cast<std::size_t>(rows.count * row));
  });
}

// Writes zeros to the rows that flatten_patches does not use.
void flatten_gradient(const Tensor& dy, std::int64_t first, Tensor& dx) {
  const std::int64_t row = bytes_of(dx, dx.size(3)), patch_bytes = dx.size(2) * row;
  for_each_patch(dx, dy, first, [=](char* patch, const char* sequence, const PatchRows& rows) {
    const std::int64_t begin = rows.count > 0 ? rows.in_patch * row : 0, bytes = rows.count * row;
    std::memset(patch, 0, static_cast<std::size_t>(begin));
    if (bytes > 0) std::memcpy(patch + begin, sequence, static_cast<std::size_t>(bytes));
    std::memset(patch + begin + bytes, 0, static_cast<std::size_t>(patch_bytes - begin - bytes));
  });
}

const bool added = add_cpu_floating_kernel(stage_input_forward, stage_input) && add_cpu_floating_kernel(stage_input_backward, stage_input_gradient) &&
                   add_cpu_floating_kernel(sum_over_batch, batch_sum) && add_cpu_floating_kernel(flatten_patches_forward, flatten) &&
                   add_cpu_floating_kernel(flatten_patches_backward, flatten_gradient) && add_cpu_floating_kernel(copy_sequence, copy);

}  // namespace
}  // namespace mblm
