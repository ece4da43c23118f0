#include "ops/matmul.h"

#include <vector>

#include "cpu/gemm.h"
#include "cpu/kernel.h"

namespace mblm {
namespace {

struct Sizes {
  std::int64_t batch, M, N, K;
  std::int64_t a_columns, b_columns;  // of the stored matrices, before transposition
  std::int64_t a_step, b_step;        // elements between matrices of the batch; 0: one matrix for the whole batch
};

Sizes sizes_of(const Tensor& a, const Tensor& b, const Tensor& c, const MatmulFlags& flags) {
  Sizes s{};
  s.batch = c.rank() > 2 ? c.size(0) : 1;
  s.M = c.size(-2);
  s.N = c.size(-1);
  s.K = flags.transpose_a ? a.size(-2) : a.size(-1);
  s.a_columns = a.size(-1);
  s.b_columns = b.size(-1);
  s.a_step = a.rank() > 2 ? s.M * s.K : 0;
  s.b_step = b.rank() > 2 ? s.K * s.N : 0;
  return s;
}

struct TileSize {
  std::int64_t rows, columns;
};

// The next multiple of `unit`, at least `unit`.
std::int64_t round_up(std::int64_t n, std::int64_t unit) { return std::max(unit, (n + unit - 1) / unit * unit); }

// Tiles of c: 256 rows by all columns, halved along the longer side until there are 16 tiles or a tile has at most 2^20
// multiplications, which cost as much as starting threads. Depends on the shape only.
TileSize tile_of(const Sizes& s) {
  TileSize tile{std::min<std::int64_t>(256, round_up(s.M, 32)), round_up(s.N, 64)};
  while (s.batch * tile_count(s.M, tile.rows) * tile_count(s.N, tile.columns) < 16 && tile.rows * tile.columns * s.K > (1 << 20)) {
    if (tile.columns > tile.rows && tile.columns > 64)
      tile.columns = round_up(tile.columns / 2, 64);
    else if (tile.rows > 32)
      tile.rows = round_up(tile.rows / 2, 32);
    else
      break;
  }
  return tile;
}

// Runs f(matrix of the batch, first row, rows, first column, columns) for each tile of c.
template <class F>
void for_each_tile(const Sizes& s, F&& f) {
  const TileSize tile = tile_of(s);
  const std::int64_t down = tile_count(s.M, tile.rows), across = tile_count(s.N, tile.columns);
  parallel_tiles(s.batch * down * across, 1, [&](std::int64_t index, std::int64_t, std::int64_t) {
    const std::int64_t row = index / across % down * tile.rows, column = index % across * tile.columns;
    f(index / across / down, row, std::min(tile.rows, s.M - row), column, std::min(tile.columns, s.N - column));
  });
}

// Fills a tile before the product is added to it: bias + beta c; beta = 0 does not read c.
template <class To, class From, class B>
void start_tile(To* tile, std::int64_t tile_stride, const From* c, std::int64_t c_stride, const B* bias, float beta, std::int64_t rows,
                std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) {
      const To start = bias == nullptr ? To(0) : static_cast<To>(bias[j]);
      tile[i * tile_stride + j] = beta == 0 ? start : start + static_cast<To>(beta) * static_cast<To>(c[i * c_stride + j]);
    }
}

// With one matrix b for the whole batch and many rows of c, b is transposed once; otherwise each tile would transpose it again.
// Measured: saves 3 % for K = 256, and 20 % for K = 1024 (M = 2052, N = 256), whose rows map to the same cache sets.
bool pays_to_transpose(const Tensor& b, const Tensor& c, const MatmulFlags& flags) {
  return flags.transpose_b && b.rank() == 2 && c.shape().rows() >= 1024;
}

// The transposed matrix, in the type of the arithmetic.
template <class E>
Tensor transposed(const Tensor& x) {
  using T = Real<E>;
  const std::int64_t rows = x.size(0), columns = x.size(1), block = 32;
  Tensor y = empty(Shape{columns, rows}, dtype_of<T>);
  const E* from = data<E>(x);
  T* to = data<T>(y);
  parallel_tiles(rows, block, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t first = 0; first < columns; first += block)
      for (std::int64_t j = first; j < std::min(columns, first + block); ++j)
        for (std::int64_t i = begin; i < end; ++i) to[j * rows + i] = read(from[i * columns + j]);
  });
  return y;
}

template <class T>
void multiply(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  if (pays_to_transpose(b, c, flags)) {
    multiply<T>(a, transposed<T>(b), bias, c, {flags.transpose_a, false, flags.beta});
    return;
  }
  const Sizes s = sizes_of(a, b, c, flags);
  const T *pa = data<T>(a), *pb = data<T>(b), *pbias = data_or_null<T>(bias);
  T* pc = data<T>(c);
  for_each_tile(s, [&](std::int64_t matrix, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
    const T* ta = pa + matrix * s.a_step + (flags.transpose_a ? row : row * s.a_columns);
    const T* tb = pb + matrix * s.b_step + (flags.transpose_b ? column * s.b_columns : column);
    T* tc = pc + (matrix * s.M + row) * s.N + column;
    if (pbias != nullptr) start_tile(tc, s.N, tc, s.N, pbias + column, flags.beta, rows, columns);
    gemm<T>(flags.transpose_a, flags.transpose_b, rows, columns, s.K, T(1), ta, s.a_columns, tb, s.b_columns,
            pbias != nullptr ? T(1) : static_cast<T>(flags.beta), tc, s.N);
  });
}

// The float32 sums of a tile of c: in c itself, or, for a bfloat16 c, in a buffer that is rounded at the end.
template <class C>
class TileSums {
 public:
  TileSums(C* tile, std::int64_t c_stride, std::int64_t rows, std::int64_t columns)
      : tile_(tile), c_stride_(c_stride), rows_(rows), columns_(columns), buffer_(rows * columns) {}

  float* sums() { return buffer_.start_row(tile_); }
  std::int64_t stride() const { return std::is_same_v<C, float> ? c_stride_ : columns_; }
  void finish() {
    if constexpr (!std::is_same_v<C, float>)
      for (std::int64_t i = 0; i < rows_; ++i) convert_row(sums() + i * columns_, tile_ + i * c_stride_, columns_);
  }

 private:
  C* tile_;
  std::int64_t c_stride_, rows_, columns_;
  RowBuffer<C> buffer_;
};

// b widened, and transposed if `transpose`. A weight in training has been widened since the last step of the optimizer.
Tensor widened_factor(const Tensor& b, bool transpose) {
  const Tensor kept = b.float32_copy();
  if (!kept.defined()) return transpose ? transposed<bfloat16>(b) : widened(b);
  return transpose ? transposed<float>(kept) : kept;
}

// The product of float32 copies, for processors without bfloat16 instructions. b is converted once, and so is a: in the tile that reads
// it if the tile covers all columns of c, else before.
template <class C, class B>
void multiply_widened(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  const bool transpose_b = flags.transpose_b && !pays_to_transpose(b, c, flags);
  const Tensor wide_b = widened_factor(b, flags.transpose_b && !transpose_b);
  const Sizes s = sizes_of(a, wide_b, c, {flags.transpose_a, transpose_b, flags.beta});
  const bool in_tiles = tile_of(s).columns >= s.N;
  const Tensor wide_a = in_tiles ? Tensor{} : widened(a);
  const bfloat16* pa = data<bfloat16>(a);
  const float *pwide = data_or_null<float>(wide_a), *pb = data<float>(wide_b);
  const B* pbias = data_or_null<B>(bias);
  C* pc = data<C>(c);
  for_each_tile(s, [&](std::int64_t matrix, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
    const std::int64_t first = matrix * s.a_step + (flags.transpose_a ? row : row * s.a_columns);
    const std::int64_t runs = flags.transpose_a ? s.K : rows, run = flags.transpose_a ? rows : s.K;  // rows of a that the tile reads
    Tensor copy;
    if (in_tiles) {
      copy = empty(Shape{runs, run}, DType::Float32);
      for (std::int64_t i = 0; i < runs; ++i) convert_row(pa + first + i * s.a_columns, data<float>(copy) + i * run, run);
    }
    const float *ta = in_tiles ? data<float>(copy) : pwide + first, *tb = pb + matrix * s.b_step + (transpose_b ? column * s.b_columns : column);
    C* tc = pc + (matrix * s.M + row) * s.N + column;
    TileSums<C> tile(tc, s.N, rows, columns);
    const bool adds_to_c = std::is_same_v<C, float> && pbias == nullptr, starts = !adds_to_c && (pbias != nullptr || flags.beta != 0);
    if (starts) start_tile(tile.sums(), tile.stride(), tc, s.N, pbias == nullptr ? nullptr : pbias + column, flags.beta, rows, columns);
    gemm<float>(flags.transpose_a, transpose_b, rows, columns, s.K, 1.0f, ta, in_tiles ? run : s.a_columns, tb, s.b_columns,
                adds_to_c ? flags.beta : starts ? 1.0f : 0.0f, tile.sums(), tile.stride());
    tile.finish();
  });
}

// Products by bfloat16 instructions.
template <class C, class B>
void multiply_bfloat16(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  const Sizes s = sizes_of(a, b, c, flags);
  const bfloat16 *pa = data<bfloat16>(a), *pb = data<bfloat16>(b);
  const B* pbias = data_or_null<B>(bias);
  C* pc = data<C>(c);
  for_each_tile(s, [&](std::int64_t matrix, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
    const bfloat16* ta = pa + matrix * s.a_step + (flags.transpose_a ? row : row * s.a_columns);
    const bfloat16* tb = pb + matrix * s.b_step + (flags.transpose_b ? column * s.b_columns : column);
    C* tc = pc + (matrix * s.M + row) * s.N + column;
    TileSums<C> tile(tc, s.N, rows, columns);
    const bool add = pbias != nullptr || flags.beta != 0;
    if (add) start_tile(tile.sums(), tile.stride(), tc, s.N, pbias == nullptr ? nullptr : pbias + column, flags.beta, rows, columns);
    gemm_bfloat16(flags.transpose_a, flags.transpose_b, rows, columns, s.K, ta, s.a_columns, tb, s.b_columns, add, tile.sums(), tile.stride());
    tile.finish();
  });
}

template <class C, class B>
void multiply_narrow(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  static const bool has_instructions = multiplies_bfloat16();
  if (has_instructions)
    multiply_bfloat16<C, B>(a, b, bias, c, flags);
  else
    multiply_widened<C, B>(a, b, bias, c, flags);
}

void run(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  if (a.dtype() != DType::BFloat16) {
    for_real_type("matmul_forward", a.dtype(), [&]<class T>() { multiply<T>(a, b, bias, c, flags); });
    return;
  }
  const bool narrow_c = c.dtype() == DType::BFloat16, narrow_bias = bias.defined() && bias.dtype() == DType::BFloat16;
  if (narrow_c && narrow_bias) multiply_narrow<bfloat16, bfloat16>(a, b, bias, c, flags);
  if (narrow_c && !narrow_bias) multiply_narrow<bfloat16, float>(a, b, bias, c, flags);
  if (!narrow_c && narrow_bias) multiply_narrow<float, bfloat16>(a, b, bias, c, flags);
  if (!narrow_c && !narrow_bias) multiply_narrow<float, float>(a, b, bias, c, flags);
}

const bool added = add_cpu_floating_kernel(matmul_forward, run) && set_cpu_multiplies_bfloat16(multiplies_bfloat16);

}  // namespace
}  // namespace mblm
