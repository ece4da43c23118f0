// Tiles in shared memory and products of tiles on tensor cores, for the bfloat16 kernels of attention over more than 16 tokens.
// A warp has one or more groups of 16 rows; with group = lane / 4 and t = lane % 4, a lane has rows group and group + 8 of each, and
// columns 8 n + 2t + 0, 1 (PTX ISA, mma.m16n8k16). Sums are float32; left factors are rounded to bfloat16.
#pragma once

#include "cuda/attention.h"
#include "cuda/tensor_core.h"

namespace mblm::cuda {

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

// Rows of D elements in shared memory. With 16 bytes of padding the rows of an 8 x 8 matrix lie in different banks.
template <int count, int D>
struct TileRows {
  alignas(16) bfloat16 v[count][D + 8];
};

// Rows [row, row + part) of a tile.
template <int part, int count, int D>
__device__ __forceinline__ const TileRows<part, D>& rows_from(const TileRows<count, D>& x, int row) {
  return *reinterpret_cast<const TileRows<part, D>*>(&x.v[row]);
}

// Starts the copy of `valid` rows of `width` channels; the rest of the tile becomes zero. The caller commits, waits and synchronizes.
template <int threads, int count, int D>
__device__ __forceinline__ void load_tile(TileRows<count, D>& to, const bfloat16* rows, std::int64_t stride, int valid, int width, bool packs) {
  const int thread = static_cast<int>(threadIdx.x);
  if (packs) {
    constexpr int chunks = D / 8;
    static_assert(threads % chunks == 0);
    const int channel = thread % chunks * 8;
#pragma unroll
    for (int r = thread / chunks; r < count; r += threads / chunks) {
      const bool exists = r < valid && channel < width;
      copy_async_16(&to.v[r][channel], exists ? rows + r * stride + channel : rows, exists ? 16 : 0);
    }
  } else {
    for (int i = thread; i < count * D; i += threads) {
      const int r = i / D, c = i % D;
      to.v[r][c].bits = r < valid && c < width ? rows[r * stride + c].bits : std::uint16_t{0};
    }
  }
}

// Left factors: rows [row, row + 16) of a tile, or of the transpose of a tile, and columns [16 step, 16 step + 16).
template <int count, int D>
__device__ __forceinline__ void left_factor(std::uint32_t (&a)[4], const TileRows<count, D>& x, int row, int step) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, matrix = lane / 8;
  ldmatrix_x4(a, &x.v[row + matrix % 2 * 8 + lane % 8][16 * step + matrix / 2 * 8]);
}
template <int count, int D>
__device__ __forceinline__ void left_factor_transposed(std::uint32_t (&a)[4], const TileRows<count, D>& x, int row, int step) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, matrix = lane / 8;
  ldmatrix_x4_trans(a, &x.v[16 * step + matrix / 2 * 8 + lane % 8][row + matrix % 2 * 8]);
}
// The same from a float result of the warp.
template <int N>
__device__ __forceinline__ void left_factor(std::uint32_t (&a)[4], const float (&p)[N][4], int step) {
  a[0] = pack_bf16(p[2 * step][0], p[2 * step][1]);
  a[1] = pack_bf16(p[2 * step][2], p[2 * step][3]);
  a[2] = pack_bf16(p[2 * step + 1][0], p[2 * step + 1][1]);
  a[3] = pack_bf16(p[2 * step + 1][2], p[2 * step + 1][3]);
}

// Right factors of two blocks of 8 columns: for a product with the transpose of the tile, and with the tile.
struct RightFactor {
  std::uint32_t first[2], second[2];
};
template <int count, int D>
__device__ __forceinline__ RightFactor right_factor_transposed(const TileRows<count, D>& x, int column, int step) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, matrix = lane / 8;
  std::uint32_t r[4];
  ldmatrix_x4(r, &x.v[column + matrix / 2 * 8 + lane % 8][16 * step + matrix % 2 * 8]);
  return {{r[0], r[1]}, {r[2], r[3]}};
}
template <int count, int D>
__device__ __forceinline__ RightFactor right_factor(const TileRows<count, D>& x, int column, int step) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, matrix = lane / 8;
  std::uint32_t r[4];
  ldmatrix_x4_trans(r, &x.v[16 * step + matrix % 2 * 8 + lane % 8][column + matrix / 2 * 8]);
  return {{r[0], r[1]}, {r[2], r[3]}};
}

// `groups` x 16 rows of a left factor, kept in registers.
template <int groups, int D>
struct LeftRows {
  std::uint32_t v[groups][D / 16][4];
  template <int count>
  __device__ __forceinline__ void load(const TileRows<count, D>& x, int row) {
#pragma unroll
    for (int m = 0; m < groups; ++m)
#pragma unroll
      for (int step = 0; step < D / 16; ++step) left_factor(v[m][step], x, row + 16 * m, step);
  }
};

// s = a b^T, for N blocks of 8 rows of b.
template <int groups, int N, int D, int count>
__device__ __forceinline__ void multiply_transposed(float (&s)[groups][N][4], const LeftRows<groups, D>& a, const TileRows<count, D>& b) {
#pragma unroll
  for (int m = 0; m < groups; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s[m][n][i] = 0;
#pragma unroll
  for (int step = 0; step < D / 16; ++step)
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      const RightFactor right = right_factor_transposed(b, 8 * n, step);
#pragma unroll
      for (int m = 0; m < groups; ++m) {
        mma_16x8x16(s[m][n], a.v[m][step], right.first);
        mma_16x8x16(s[m][n + 1], a.v[m][step], right.second);
      }
    }
}

// sums += a b for one step of 16 rows of b.
template <int groups, int D, int count>
__device__ __forceinline__ void add_product(float (&sums)[groups][D / 8][4], const std::uint32_t (&a)[groups][4], const TileRows<count, D>& b, int step) {
#pragma unroll
  for (int c = 0; c < D / 8; c += 2) {
    const RightFactor right = right_factor(b, 8 * c, step);
#pragma unroll
    for (int m = 0; m < groups; ++m) {
      mma_16x8x16(sums[m][c], a[m], right.first);
      mma_16x8x16(sums[m][c + 1], a[m], right.second);
    }
  }
}
// sums += p b, for N blocks of 8 rows of b.
template <int groups, int N, int D, int count>
__device__ __forceinline__ void add_product(float (&sums)[groups][D / 8][4], const float (&p)[groups][N][4], const TileRows<count, D>& b) {
#pragma unroll
  for (int step = 0; step < N / 2; ++step) {
    std::uint32_t a[groups][4];
#pragma unroll
    for (int m = 0; m < groups; ++m) left_factor(a[m], p[m], step);
    add_product(sums, a, b, step);
  }
}

// Writes a result of the warp to rows [row, row + 16) of a tile, rounded.
template <int N, int count, int D>
__device__ __forceinline__ void write_to_tile(TileRows<count, D>& x, int row, const float (&p)[N][4], float factor_low = 1, float factor_high = 1) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    *reinterpret_cast<std::uint32_t*>(&x.v[row + lane / 4][8 * n + 2 * (lane % 4)]) = pack_bf16(factor_low * p[n][0], factor_low * p[n][1]);
    *reinterpret_cast<std::uint32_t*>(&x.v[row + lane / 4 + 8][8 * n + 2 * (lane % 4)]) = pack_bf16(factor_high * p[n][2], factor_high * p[n][3]);
  }
}
// Writes a result of the warp to `valid` rows in global memory. First stages it in rows [row, row + 16) of a tile that no other warp
// uses, so that each lane writes 16 bytes and the warp writes whole lines.
template <int D, int count>
__device__ __forceinline__ void write_rows(TileRows<count, D>& stage, int row, const float (&sums)[D / 8][4], float factor_low, float factor_high, bfloat16* rows,
                                           std::int64_t stride, int valid, int width, bool packs) {
  __syncwarp();
  write_to_tile(stage, row, sums, factor_low, factor_high);
  __syncwarp();
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if (packs) {
#pragma unroll
    for (int i = lane; i < 16 * D / 8; i += warp_size) {
      const int r = i / (D / 8), c = i % (D / 8) * 8;
      if (r < valid && c < width) *reinterpret_cast<uint4*>(rows + r * stride + c) = *reinterpret_cast<const uint4*>(&stage.v[row + r][c]);
    }
  } else {
    for (int i = lane; i < 16 * D; i += warp_size) {
      const int r = i / D, c = i % D;
      if (r < valid && c < width) rows[r * stride + c] = stage.v[row + r][c];
    }
  }
}

#endif

}  // namespace mblm::cuda
