// y = x w^T + bias with one order of operations for every row.
#include "cuda/row_team.h"
#include "ops/linear.h"

namespace mblm::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_size;

template <class X, class W, class Y>
struct Arguments {
  const X* x;         // (M, K)
  const W* w;         // (N, K)
  const float* bias;  // (N), or null
  Y* y;               // (M, N)
  std::int64_t rows, depth, outputs;
  std::int64_t output_tiles;
};

// N elements from k on, as float: with 16-byte accesses if `packs`, otherwise up to `depth`, zeros after it.
template <int N, bool packs, class T>
__device__ __forceinline__ void read_factor(float (&to)[N], const T* row, std::int64_t k, std::int64_t depth) {
  if constexpr (packs) {
    Elements<T, N> elements;
    elements.read(row + k);
#pragma unroll
    for (int e = 0; e < N; ++e) to[e] = elements[e];
  } else {
#pragma unroll
    for (int e = 0; e < N; ++e) to[e] = k + e < depth ? to_float(row[k + e]) : 0.0f;
  }
}

// A warp per tile of R rows of x and C outputs. Lane l has the elements k = (32 i + l) N + e, N = 16 bytes of w, and adds their products
// in ascending order; then the lanes are added in a tree. So the order depends on K alone. For one row of x, bound by reading w once; for
// many, 8 x 4 sums per lane take 12 packs for 32 N products, and half of the float32 peak remains possible.
template <int R, int C, bool packs, class X, class W, class Y>
__global__ void __launch_bounds__(threads) multiply(Arguments<X, W, Y> in) {
  constexpr int N = 16 / static_cast<int>(sizeof(W));
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t tile = std::int64_t{blockIdx.x} * warps + threadIdx.x / warp_size;
  const std::int64_t row = tile / in.output_tiles * R, output = tile % in.output_tiles * C;
  if (row >= in.rows) return;
  // Rows and outputs after the last are computed again in the place of the last.
  const X* x[R];
  const W* w[C];
#pragma unroll
  for (int r = 0; r < R; ++r) x[r] = in.x + (row + r < in.rows ? row + r : in.rows - 1) * in.depth;
#pragma unroll
  for (int c = 0; c < C; ++c) w[c] = in.w + (output + c < in.outputs ? output + c : in.outputs - 1) * in.depth;
  float sums[R][C] = {};
#pragma unroll(R == 1 ? 4 : 1)
  for (std::int64_t k = lane * N; k < in.depth; k += warp_size * N) {
    float b[C][N];
#pragma unroll
    for (int c = 0; c < C; ++c) read_factor<N, packs>(b[c], w[c], k, in.depth);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float a[N];
      read_factor<N, packs>(a, x[r], k, in.depth);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        if constexpr (std::is_same_v<W, bfloat16> && !std::is_same_v<X, bfloat16>) a[e] = to_float(from_float<bfloat16>(a[e]));
#pragma unroll
        for (int c = 0; c < C; ++c) sums[r][c] = fmaf(a[e], b[c][e], sums[r][c]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const float sum = warp_sum(sums[r][c]);
      if (lane == 0 && row + r < in.rows && output + c < in.outputs)
        in.y[(row + r) * in.outputs + output + c] = from_float<Y>(in.bias == nullptr ? sum : sum + in.bias[output + c]);
    }
  }
}

template <int R, int C, class X, class W, class Y>
void start(Arguments<X, W, Y> in, bool packs) {
  in.output_tiles = divide_up(in.outputs, C);
  const unsigned blocks = blocks_for(divide_up(in.rows, R) * in.output_tiles, warps);
  if (packs)
    launch<multiply<R, C, true, X, W, Y>>(blocks, threads, 0, in);
  else
    launch<multiply<R, C, false, X, W, Y>>(blocks, threads, 0, in);
}

void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) {
  if (y.numel() == 0) return;
  for_element_types("linear_inference_forward", x.dtype(), weight.dtype(), [&]<class X, class W>() {
    for_element_type("linear_inference_forward", y.dtype(), [&]<class Y>() {
      const Arguments<X, W, Y> in{data<X>(x), data<W>(weight), static_cast<const float*>(raw(bias)), data<Y>(y), x.size(0), x.size(1), weight.size(0), 0};
      const bool packs = in.depth % (16 / static_cast<std::int64_t>(sizeof(W))) == 0 && is_aligned(in.x, 16) && is_aligned(in.w, 16) &&
                         in.depth * static_cast<std::int64_t>(sizeof(X)) % 16 == 0;
      if (in.rows == 1)
        start<1, 1>(in, packs);
      else if (in.rows <= 4)
        start<4, 1>(in, packs);
      else
        start<8, 4>(in, packs);
    });
  });
}

const bool added = add_kernel(linear_inference_forward, forward);

}  // namespace
}  // namespace mblm::cuda
