// y = x w^T + bias with one order of operations for every row. Lane l of the sum of one output has the products of k = l, l + lanes, ...
// in ascending order, and a fixed tree adds the lanes. So the order depends on K alone: not on the number of rows, on the tile of rows
// and outputs that is computed together, or on the number of threads.
#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/linear.h"

namespace mblm {
namespace {

// Rows of x and outputs of one register tile. All sums, the factors of one side and one factor of the other side are in registers: 32
// with AVX-512, 16 otherwise. A single row takes eight outputs, whose lanes are added together, but reads four rows of w at a time:
// a sum can take a product only every fourth cycle, and more rows are more streams from memory.
inline constexpr int tile_rows = 4, tile_outputs = vector_bytes == 64 ? 4 : 3, row_outputs = 8, row_streams = 4;

// A unit of work: a block of w of 64 KiB of float32, so that the threads share a small w, and at most 64 rows, which read the block from
// the L2 cache.
inline constexpr std::int64_t unit_rows = 64, block_elements = 16384;

// Vectors that one load of w gives. A vector of bfloat16 gives its even and its odd elements, which takes one instruction for each; x
// then has the same order (as_factor).
template <class W>
inline constexpr int vectors_of = std::is_same_v<W, bfloat16> ? 2 : 1;
template <class T, class W>
inline constexpr std::int64_t step_of = lane_count<T> * vectors_of<W>;

inline void load_step(const float* w, Lanes<float>* out) { out[0] = load(w); }
inline void load_step(const double* w, Lanes<double>* out) { out[0] = load(w); }
inline void load_step(const bfloat16* w, Lanes<float>* out) {
  Lanes<std::uint32_t> pairs;
  std::memcpy(&pairs, static_cast<const void*>(w), sizeof pairs);
  out[0] = std::bit_cast<Lanes<float>>(pairs << 16);
  out[1] = std::bit_cast<Lanes<float>>(pairs & 0xffff0000u);
}
template <class T, class W>
inline void load_last_step(const W* w, std::int64_t count, Lanes<T>* out) {
  W padded[step_of<T, W>] = {};
  std::copy_n(w, count, padded);
  load_step(padded, out);
}

template <class T>
struct Factor {
  const T* rows;        // (M, stride), in the order of load_step
  std::int64_t stride;  // elements between rows
};

// Bytes between what a tile reads of w and what it prefetches. The hardware prefetcher follows a few streams and starts anew at each row.
inline constexpr std::int64_t prefetch_distance = 8192, cache_line = 64;

// sums[i * columns + j] = x row i . w row j, for `rows` rows of x and `columns` adjacent rows of w. `prefetch` is for a block of w that is
// in no cache near the processor. It loads as many bytes as are read, in the order of addresses.
template <bool prefetch, int rows, int columns, class T, class W>
inline void add_products(Factor<T> x, const W* w, std::int64_t depth, Lanes<T>* sums) {
  constexpr std::int64_t lanes = lane_count<T>, step = step_of<T, W>;
  Lanes<T> sum[rows * columns];
#pragma GCC unroll 16
  for (int i = 0; i < rows * columns; ++i) sum[i] = Lanes<T>{};
  // Each factor of x is loaded once for all columns.
  const auto add = [&](std::int64_t k, const Lanes<T> (&b)[columns][vectors_of<W>], std::int64_t last) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors_of<W>; ++v) {
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const T* from = x.rows + i * x.stride + k + v * lanes;
        const Lanes<T> a = last == 0 ? load(from) : load_first(from, last);
#pragma GCC unroll 16
        for (int j = 0; j < columns; ++j) sum[i * columns + j] = multiply_add(a, b[j][v], sum[i * columns + j]);
      }
    }
  };
  std::int64_t k = 0;
  for (; k + step <= depth; k += step) {
    Lanes<T> b[columns][vectors_of<W>];
#pragma GCC unroll 16
    for (int j = 0; j < columns; ++j) load_step(w + j * depth + k, b[j]);
    if constexpr (prefetch) {
      constexpr auto bytes = static_cast<std::int64_t>(sizeof(W)) * columns;
      const char* ahead = reinterpret_cast<const char*>(w) + k * bytes + prefetch_distance;
#pragma GCC unroll 16
      for (std::int64_t line = 0; line < step * bytes; line += cache_line) __builtin_prefetch(ahead + line, 0, 3);
    }
    add(k, b, 0);
  }
  if (k < depth) {
    Lanes<T> b[columns][vectors_of<W>];
#pragma GCC unroll 16
    for (int j = 0; j < columns; ++j) load_last_step<T>(w + j * depth + k, depth - k, b[j]);
    add(k, b, vectors_of<W> == 1 ? depth - k : 0);
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows * columns; ++i) sums[i] = sum[i];
}

// out[i * columns + j] = x row i . w row j.
template <bool prefetch, int rows, int columns, class T, class W>
inline void dot_tile(Factor<T> x, const W* w, std::int64_t depth, T* out) {
  constexpr std::int64_t lanes = lane_count<T>, count = rows * columns, padded = (count + lanes - 1) / lanes * lanes;
  Lanes<T> sums[padded];
  if constexpr (rows == 1 && columns == row_outputs) {
    for (int j = 0; j < columns; j += row_streams) add_products<prefetch, 1, row_streams>(x, w + j * depth, depth, sums + j);
  } else {
    add_products<prefetch, rows, columns>(x, w, depth, sums);
  }
  for (std::int64_t i = count; i < padded; ++i) sums[i] = Lanes<T>{};
  for (std::int64_t first = 0; first < padded; first += lanes) store(out + first, sum_each<T>(sums + first));
}

// Outputs [begin, end) of a block of rows of x. w points to the row of w of output `begin`, y to that of output 0.
template <class T, class W, class Y>
struct Block {
  Factor<T> x;
  const W* w;
  std::int64_t depth;
  const T* bias;  // (N) or null
  Y* y;
  std::int64_t outputs;  // N

  template <bool prefetch, int rows, int columns>
  void run_rows(std::int64_t row, std::int64_t begin, std::int64_t end) const {
    const Factor<T> from{x.rows + row * x.stride, x.stride};
    std::int64_t n = begin;
    for (; n + columns <= end; n += columns) run_tile<prefetch, rows, columns>(from, row, n, n - begin);
    for (; n < end; ++n) run_tile<false, rows, 1>(from, row, n, n - begin);
  }

  template <bool prefetch, int rows, int columns>
  void run_tile(Factor<T> from, std::int64_t row, std::int64_t n, std::int64_t offset) const {
    alignas(64) T sums[(rows * columns + 15) / 16 * 16];
    dot_tile<prefetch, rows, columns>(from, w + offset * depth, depth, sums);
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j) write(y[(row + i) * outputs + n + j], sums[i * columns + j] + (bias == nullptr ? T(0) : bias[n + j]));
  }

  template <bool prefetch>
  void run_last_rows(std::int64_t row, std::int64_t rows, std::int64_t begin, std::int64_t end) const {
    switch (rows) {
      case 1: return run_rows<prefetch, 1, row_outputs>(row, begin, end);
      case 2: return run_rows<prefetch, 2, 4>(row, begin, end);
      case 3: return run_rows<prefetch, 3, tile_outputs>(row, begin, end);
      case 4: return run_rows<prefetch, tile_rows, tile_outputs>(row, begin, end);
      default: return;
    }
  }

  // Rows [first, last). The first rows load the block from memory, the others find it in a cache.
  void run(std::int64_t first, std::int64_t last, std::int64_t begin, std::int64_t end) const {
    const std::int64_t fresh = std::min<std::int64_t>(tile_rows, last - first);
    run_last_rows<true>(first, fresh, begin, end);
    std::int64_t row = first + fresh;
    for (; row + tile_rows <= last; row += tile_rows) run_rows<false, tile_rows, tile_outputs>(row, begin, end);
    run_last_rows<false>(row, last - row, begin, end);
  }
};

// Rows of bfloat16 as float32 in the order of load_step, `stride` apart; zeros after the last element.
void widen_rows(const bfloat16* from, std::int64_t rows, std::int64_t depth, float* to, std::int64_t stride) {
  constexpr std::int64_t step = step_of<float, bfloat16>;
  for (std::int64_t r = 0; r < rows; ++r, from += depth, to += stride) {
    for (std::int64_t k = 0; k < depth; k += step) {
      Lanes<float> pair[2];
      if (k + step <= depth)
        load_step(from + k, pair);
      else
        load_last_step<float>(from + k, depth - k, pair);
      store(to + k, pair[0]);
      store(to + k + lane_count<float>, pair[1]);
    }
  }
}

// x rounded to bfloat16, as the factor of a bfloat16 weight: float32 in the order of load_step.
template <class X>
Tensor bfloat16_factor(const Tensor& x, std::int64_t stride) {
  const std::int64_t rows = x.size(0), depth = x.size(1);
  Tensor factor = empty(Shape{rows, stride}, DType::Float32), rounded = empty(Shape{std::is_same_v<X, bfloat16> ? 0 : depth}, DType::BFloat16);
  for (std::int64_t r = 0; r < rows; ++r) {
    const X* row = data<X>(x) + r * depth;
    float* to = data<float>(factor) + r * stride;
    if constexpr (std::is_same_v<X, bfloat16>) {
      widen_rows(row, 1, depth, to, stride);
    } else {
      convert_row(row, data<bfloat16>(rounded), depth);
      widen_rows(data<bfloat16>(rounded), 1, depth, to, stride);
    }
  }
  return factor;
}

template <class T, class W, class Y>
void run(Factor<T> x, std::int64_t rows, const Tensor& weight, const Tensor& bias, Tensor& y) {
  if (rows == 0) return;
  const std::int64_t depth = weight.size(1), outputs = weight.size(0);
  const std::int64_t block = std::max<std::int64_t>(1, block_elements / std::max<std::int64_t>(1, depth) / 24) * 24;  // whole register tiles
  const std::int64_t blocks = tile_count(outputs, block), row_tile = std::min(rows, unit_rows);
  const W* w = data<W>(weight);
  const T* pb = data_or_null<T>(bias);
  Y* py = data<Y>(y);
  parallel_tiles(blocks * tile_count(rows, row_tile), 1, [&](std::int64_t unit, std::int64_t, std::int64_t) {
    const std::int64_t first = unit / blocks * row_tile, last = std::min(rows, first + row_tile), begin = unit % blocks * block;
    const std::int64_t end = std::min(outputs, begin + block);
    if constexpr (std::is_same_v<W, bfloat16>) {
      if (last - first > tile_rows) {  // the block is widened once for all rows
        Tensor wide = empty(Shape{end - begin, x.stride}, dtype_of<T>);
        widen_rows(w + begin * depth, end - begin, depth, data<T>(wide), x.stride);
        return Block<T, T, Y>{x, data<T>(wide), x.stride, pb, py, outputs}.run(first, last, begin, end);
      }
    }
    Block<T, W, Y>{x, w + begin * depth, depth, pb, py, outputs}.run(first, last, begin, end);
  });
}

void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) {
  for_mixed_types("linear_inference_forward", x.dtype(), weight.dtype(), [&]<class X, class W>() {
    for_mixed_types("linear_inference_forward", x.dtype(), y.dtype(), [&]<class X2, class Y>() {
      if constexpr (std::is_same_v<X, X2> && std::is_same_v<Real<Y>, Real<W>>) {
        using T = Real<X>;
        if constexpr (std::is_same_v<W, bfloat16>) {
          const std::int64_t stride = tile_count(x.size(1), step_of<T, W>) * step_of<T, W>;
          const Tensor factor = bfloat16_factor<X>(x, stride);
          run<T, W, Y>({data<T>(factor), stride}, x.size(0), weight, bias, y);
        } else {
          const Tensor wide = widened(x);
          run<T, W, Y>({data<T>(wide), x.size(1)}, x.size(0), weight, bias, y);
        }
      }
    });
  });
}

const bool added = add_cpu_floating_kernel(linear_inference_forward, forward);

}  // namespace
}  // namespace mblm
