// y = x w^T + bias with one order of operations for every row. Lane l of the sum of one output has the products of k = l, l + lanes, ...
// in ascending order, and a fixed tree adds the lanes. So the order depends on K alone: not on the number of rows, on the tile of rows
// and outputs that is computed together, or on the number of threads.
#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/linear.h"

namespace mblm {
namespace {

// Rows of x and outputs of one register tile. All sums, the factors of one side and one factor of the other side are in registers: 32
// with AVX-512, 16 otherwise. A single row takes eight outputs, because a sum can take a product only every fourth cycle.
inline constexpr int tile_rows = 4, tile_outputs = vector_bytes == 64 ? 4 : 3, row_outputs = 8;

// Elements of w in one block: 64 KiB of float32 for few rows, so that a small w is shared by the threads; for many rows a share of the
// L2 cache, from which all rows of a tile read the block. A tile of many rows has 64.
inline constexpr std::int64_t few_rows = 8, rows_of_tile = 64, block_elements_few_rows = 16384, block_elements = 65536;

template <class T, class W>
struct Product {
  const T* x;      // (M, K), in the type of the arithmetic, rounded to bfloat16 if w is bfloat16
  const W* w;      // (N, K)
  const T* bias;   // (N) or null
  std::int64_t depth, outputs;  // K, N
};

// sums[i * columns + j] = x row i . w row j. `prefetch` loads the rows of the next tile, one cache line per row and step: they come from
// memory when few rows of x read them, and the hardware prefetcher starts anew at each row.
template <bool prefetch, int rows, int columns, class T, class W>
inline void dot_tile(const T* x, const W* w, std::int64_t depth, T* sums) {
  constexpr std::int64_t lanes = lane_count<T>, count = rows * columns, padded = (count + lanes - 1) / lanes * lanes;
  Lanes<T> sum[padded] = {};
  std::int64_t k = 0;
  for (; k + lanes <= depth; k += lanes) {
    Lanes<T> b[columns];
#pragma GCC unroll 16
    for (int j = 0; j < columns; ++j) {
      b[j] = load(w + j * depth + k);
      if constexpr (prefetch) __builtin_prefetch(w + (columns + j) * depth + k, 0, 2);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const Lanes<T> a = load(x + i * depth + k);
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) sum[i * columns + j] = multiply_add(a, b[j], sum[i * columns + j]);
    }
  }
  if (k < depth) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const Lanes<T> a = load_first(x + i * depth + k, depth - k);
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) sum[i * columns + j] = multiply_add(a, load_first(w + j * depth + k, depth - k), sum[i * columns + j]);
    }
  }
#pragma GCC unroll 16
  for (std::int64_t first = 0; first < padded; first += lanes) store(sums + first, sum_each<T>(sum + first));
}

// Outputs [begin, end) of `rows` rows of x.
template <bool prefetch, int rows, int columns, class T, class W, class Y>
void run_rows(const Product<T, W>& p, std::int64_t row, std::int64_t begin, std::int64_t end, Y* y) {
  const T* x = p.x + row * p.depth;
  alignas(64) T sums[(rows * columns + 15) / 16 * 16];
  const auto finish = [&](std::int64_t first, int count) {
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < count; ++j) write(y[(row + i) * p.outputs + first + j], sums[i * count + j] + (p.bias == nullptr ? T(0) : p.bias[first + j]));
  };
  std::int64_t n = begin;
  for (; n + columns <= end; n += columns) {
    dot_tile<prefetch, rows, columns>(p.x + row * p.depth, p.w + n * p.depth, p.depth, sums);
    finish(n, columns);
  }
  for (; n < end; ++n) {
    dot_tile<false, rows, 1>(x, p.w + n * p.depth, p.depth, sums);
    finish(n, 1);
  }
}

// Outputs [begin, end) of rows [first, last).
template <class T, class W, class Y>
void run_block(const Product<T, W>& p, std::int64_t first, std::int64_t last, std::int64_t begin, std::int64_t end, Y* y) {
  bool fresh = true;  // no row has read these rows of w yet
  std::int64_t row = first;
  for (; row + tile_rows <= last; row += tile_rows, fresh = false) {
    if (fresh)
      run_rows<true, tile_rows, tile_outputs>(p, row, begin, end, y);
    else
      run_rows<false, tile_rows, tile_outputs>(p, row, begin, end, y);
  }
  switch (last - row) {
    case 1: return fresh ? run_rows<true, 1, row_outputs>(p, row, begin, end, y) : run_rows<false, 1, row_outputs>(p, row, begin, end, y);
    case 2: return fresh ? run_rows<true, 2, 4>(p, row, begin, end, y) : run_rows<false, 2, 4>(p, row, begin, end, y);
    case 3: return fresh ? run_rows<true, 3, tile_outputs>(p, row, begin, end, y) : run_rows<false, 3, tile_outputs>(p, row, begin, end, y);
    default: return;
  }
}

template <class T, class W, class Y>
void run(const Product<T, W>& p, std::int64_t rows, Y* y) {
  const std::int64_t elements = rows <= few_rows ? block_elements_few_rows : block_elements;
  const std::int64_t block = std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, p.depth) / 24) * 24;  // whole register tiles
  const std::int64_t blocks = tile_count(p.outputs, block), row_tile = std::min(rows, rows_of_tile);
  if (rows == 0) return;
  parallel_tiles(blocks * tile_count(rows, row_tile), 1, [&](std::int64_t unit, std::int64_t, std::int64_t) {
    const std::int64_t first = unit / blocks * row_tile, begin = unit % blocks * block;
    run_block(p, first, std::min(rows, first + row_tile), begin, std::min(p.outputs, begin + block), y);
  });
}

// x as the factor of a product with elements W, in the type of the arithmetic: rounded to bfloat16 for a bfloat16 w.
template <class X, class W>
Tensor as_factor(const Tensor& x) {
  using T = Real<X>;
  if constexpr (std::is_same_v<X, T> && !std::is_same_v<W, bfloat16>) {
    return x;
  } else {
    Tensor factor = empty(x.shape(), dtype_of<T>);
    const X* from = data<X>(x);
    T* to = data<T>(factor);
    const std::int64_t count = x.numel();
    if constexpr (std::is_same_v<X, bfloat16>) {
      convert_row(from, to, count);
    } else {
      std::int64_t i = 0;
      for (; i + lane_count<float> <= count; i += lane_count<float>) store(to + i, widen(narrow(load(from + i))));
      if (i < count) store_first(to + i, widen(narrow(load_first(from + i, count - i))), count - i);
    }
    return factor;
  }
}

void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) {
  for_mixed_types("linear_inference_forward", x.dtype(), weight.dtype(), [&]<class X, class W>() {
    for_mixed_types("linear_inference_forward", x.dtype(), y.dtype(), [&]<class X2, class Y>() {
      if constexpr (std::is_same_v<X, X2> && std::is_same_v<Real<Y>, Real<W>>) {
        const Tensor factor = as_factor<X, W>(x);
        const Product<Real<X>, W> product{data<Real<X>>(factor), data<W>(weight), data_or_null<Real<X>>(bias), weight.size(1), weight.size(0)};
        run(product, x.size(0), data<Y>(y));
      }
    });
  });
}

const bool added = add_cpu_floating_kernel(linear_inference_forward, forward);

}  // namespace
}  // namespace mblm
