// Stands in for cuBLASLt on the emulated device: checks what the library takes for granted, and sums in another order of k.
#include "cuda/gemm.h"

#include <cstring>
#include <vector>

#include "tests/cuda/extent.h"

namespace mblm::cuda {
namespace {

using testing::Extent;

constexpr std::int64_t block_k = 256;       // terms that are added in registers; the blocks are added last to first
constexpr std::int64_t tile_m = 4, tile_n = 16;  // of c in registers

// A matrix of the product as it is stored.
struct Stored {
  const char* name;
  const void* begin;
  DType dtype;
  std::int64_t rows, columns, row_step, stride;

  Extent extent(std::int64_t batch) const {
    const std::int64_t elements = (batch - 1) * stride + (rows - 1) * row_step + columns;
    return {name, begin, elements * static_cast<std::int64_t>(size_of(dtype))};
  }
};

void check_arguments(const Gemm& g, const Stored& a, const Stored& b, const Stored& c, const Extent& bias) {
  require<DeviceError>(g.m > 0 && g.n > 0 && g.k > 0 && g.batch > 0, "gemm: expected sizes of at least 1, got m ", g.m, ", n ", g.n, ", k ", g.k,
                       ", batch ", g.batch);
  require<DeviceError>(g.input == DType::BFloat16 || (g.input == DType::Float32 && g.output == DType::Float32), "gemm: no product of ", g.input, " to ",
                       g.output);
  require<DeviceError>(g.output == DType::BFloat16 || g.output == DType::Float32, "gemm: no product to ", g.output);
  require<DeviceError>(g.output == DType::Float32 || g.beta == 0, "gemm: expected beta 0 with a bfloat16 c, got ", g.beta);
  for (const Stored& x : {a, b, c}) {
    require<DeviceError>(x.row_step >= x.columns, "gemm: expected rows of ", x.name, " at least ", x.columns, " elements apart, got ", x.row_step);
    require<DeviceError>(x.stride >= 0, "gemm: negative stride of ", x.name);
    testing::check_extent("gemm", x.extent(g.batch), size_of(x.dtype));
  }
  require<DeviceError>(g.batch == 1 || c.stride >= (c.rows - 1) * c.row_step + c.columns, "gemm: the matrices of c overlap");
  require<DeviceError>(g.bias == (bias.begin != nullptr), "gemm: the bias flag differs from the address");
  testing::check_extent("gemm", bias, 16);
  testing::check_disjoint("gemm", c.extent(g.batch), {a.extent(g.batch), b.extent(g.batch), bias});
}

// Copies columns [first, first + width) of rows [begin, end) of op(x), zero beyond the matrix, as float32: panel[row - begin][column - first].
// `x` is addressed by x[row * down + column * across].
template <class T>
void pack(float* panel, const T* x, std::int64_t down, std::int64_t across, std::int64_t begin, std::int64_t end, std::int64_t first,
          std::int64_t width, std::int64_t columns) {
  for (std::int64_t row = begin; row < end; ++row)
    for (std::int64_t j = 0; j < width; ++j, ++panel) *panel = first + j < columns ? static_cast<float>(x[row * down + (first + j) * across]) : 0.0f;
}

using Lanes __attribute__((vector_size(32))) = float;  // half a row of the tile: the tile stays in registers
static_assert(2 * sizeof(Lanes) == tile_n * sizeof(float));

// sums[4][16] += left[k][4]^T right[k][16].
void multiply_tile(const float* left, const float* right, std::int64_t terms, float* sums, std::int64_t step) {
  Lanes tile[tile_m][2] = {}, low, high;
  for (std::int64_t k = 0; k < terms; ++k) {
    std::memcpy(&low, right + k * tile_n, sizeof low);
    std::memcpy(&high, right + k * tile_n + tile_n / 2, sizeof high);
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < tile_m; ++i) {
      tile[i][0] += left[k * tile_m + i] * low;
      tile[i][1] += left[k * tile_m + i] * high;
    }
  }
  for (std::int64_t i = 0; i < tile_m; ++i, sums += step) {
    std::memcpy(&low, sums, sizeof low);
    std::memcpy(&high, sums + tile_n / 2, sizeof high);
    low += tile[i][0];
    high += tile[i][1];
    std::memcpy(sums, &low, sizeof low);
    std::memcpy(sums + tile_n / 2, &high, sizeof high);
  }
}

template <class In, class Out>
void multiply(const Gemm& g, const In* a, const In* b, const Out* bias, Out* c) {
  const std::int64_t tiles_m = divide_up(g.m, tile_m), tiles_n = divide_up(g.n, tile_n), step = tiles_n * tile_n;
  std::vector<float> sums(static_cast<std::size_t>(tiles_m * tile_m * step)), left(static_cast<std::size_t>(block_k * tile_m)),
      right(static_cast<std::size_t>(block_k * step));
  for (std::int64_t end = g.k, begin; end > 0; end = begin) {
    begin = std::max<std::int64_t>(0, end - block_k);
    for (std::int64_t j = 0; j < tiles_n; ++j)
      pack(right.data() + j * block_k * tile_n, b, g.transpose_b ? 1 : g.ldb, g.transpose_b ? g.ldb : 1, begin, end, j * tile_n, tile_n, g.n);
    for (std::int64_t i = 0; i < tiles_m; ++i) {
      pack(left.data(), a, g.transpose_a ? g.lda : 1, g.transpose_a ? 1 : g.lda, begin, end, i * tile_m, tile_m, g.m);
      for (std::int64_t j = 0; j < tiles_n; ++j)
        multiply_tile(left.data(), right.data() + j * block_k * tile_n, end - begin, sums.data() + i * tile_m * step + j * tile_n, step);
    }
  }
  for (std::int64_t i = 0; i < g.m; ++i)
    for (std::int64_t j = 0; j < g.n; ++j) {
      float sum = sums[static_cast<std::size_t>(i * step + j)] + (bias == nullptr ? 0.0f : static_cast<float>(bias[j]));
      if (g.beta != 0) sum += g.beta * static_cast<float>(c[i * g.ldc + j]);
      c[i * g.ldc + j] = static_cast<Out>(sum);
    }
}

template <class In, class Out>
void multiply_batch(const Gemm& g, const void* a, const void* b, const void* bias, void* c) {
  for (std::int64_t i = 0; i < g.batch; ++i)
    multiply(g, static_cast<const In*>(a) + i * g.stride_a, static_cast<const In*>(b) + i * g.stride_b, static_cast<const Out*>(bias),
             static_cast<Out*>(c) + i * g.stride_c);
}

}  // namespace

bool gemm(const Gemm& g, const void* a, const void* b, const void* bias, void* c) {
  const Stored stored_a{"a", a, g.input, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, g.lda, g.stride_a};
  const Stored stored_b{"b", b, g.input, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, g.ldb, g.stride_b};
  const Stored stored_c{"c", c, g.output, g.m, g.n, g.ldc, g.stride_c};
  const Extent added{"bias", bias, g.bias ? g.n * static_cast<std::int64_t>(size_of(g.output)) : 0};
  check_arguments(g, stored_a, stored_b, stored_c, added);
  if (g.bias && g.n % 2 == 1) return false;  // so that the tests run the caller's own addition too
  const Extent written = stored_c.extent(g.batch);
  const std::int64_t bytes = stored_a.extent(g.batch).bytes + stored_b.extent(g.batch).bytes + added.bytes + written.bytes * (g.beta == 0 ? 1 : 2);
  const auto product = [=] {
    if (g.input == DType::Float32) multiply_batch<float, float>(g, a, b, bias, c);
    if (g.input == DType::BFloat16 && g.output == DType::Float32) multiply_batch<bfloat16, float>(g, a, b, bias, c);
    if (g.input == DType::BFloat16 && g.output == DType::BFloat16) multiply_batch<bfloat16, bfloat16>(g, a, b, bias, c);
    emulator::note_host_write(written.begin, static_cast<std::size_t>(written.bytes));
  };
  emulator::enqueue(compute_stream(), product, static_cast<std::uint64_t>(bytes));
  return true;
}

}  // namespace mblm::cuda
