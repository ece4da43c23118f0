// Attention of 17 to 64 tokens in bfloat16. A block has one sequence and head, with all its rows in shared memory: bound by reading
// qkv (and dy) and writing y (or dqkv) once.
#include "cuda/attention_tile.h"

namespace mblm::cuda {
namespace {

// A warp per 16 queries. `plain`: neither key mask nor dropout.
template <int warps, int D>
struct ForwardTiles {
  TileRows<16 * warps, D> q, k, v;
};

// Masks the scaled scores of the warp's 16 queries, in units of log 2.
template <int N>
__device__ __forceinline__ void mask(const AttentionHead<bfloat16>& head, int first_query, float factor, float (&s)[N][4]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = head.masked(first_query + lane / 4 + 8 * (i / 2), 8 * n + 2 * (lane % 4) + i % 2, factor * s[n][i]);
}

// 8 T d bytes and 4 T T d FLOPs per head.
template <int warps, int D>
__global__ void __launch_bounds__(warps* warp_size) middle_forward(AttentionInput<bfloat16> in, AttentionRows<bfloat16> y, float* log_sum_exp) {
  constexpr int threads = warps * warp_size, N = 2 * warps;
  auto& tiles = shared_memory<ForwardTiles<warps, D>>();
  const AttentionHead<bfloat16> head(in, blockIdx.x);
  load_tile<threads>(tiles.q, head.q, in.q_row, in.queries, in.width, in.packs);
  load_tile<threads>(tiles.k, head.k, in.k_row, in.queries, in.width, in.packs);
  commit_copies();
  load_tile<threads>(tiles.v, head.v, in.k_row, in.queries, in.width, in.packs);
  commit_copies();
  wait_copies<1>();
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % warp_size, first = static_cast<int>(threadIdx.x) / warp_size * 16;
  float s[1][N][4];
  {
    LeftRows<1, D> q;
    q.load(tiles.q, first);
    multiply_transposed(s, q, tiles.k);
  }
  mask(head, first, in.scale * log2_e, s[0]);
  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first + lane / 4 + 8 * half;
    float top = -INFINITY, sum = 0;
#pragma unroll
    for (int n = 0; n < N; ++n) top = fmaxf(top, fmaxf(s[0][n][2 * half], s[0][n][2 * half + 1]));
    top = row_max(top);
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        s[0][n][i] = fast_exp2(s[0][n][i] - top);
        sum += s[0][n][i];
      }
    sum = row_sum(sum);
    factor[half] = 1 / sum;
    if (lane % 4 == 0 && query < in.queries) log_sum_exp[head.pair * in.queries + query] = top / log2_e + logf(sum);
  }
  const AttentionDropout dropout(in, head.pair);
  if (dropout.active()) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        dropout.multiply_pair(first + lane / 4 + 8 * half, 8 * n + 2 * (lane % 4), s[0][n][2 * half], s[0][n][2 * half + 1]);
  }
  wait_copies<0>();
  __syncthreads();
  float sums[1][D / 8][4] = {};
  add_product(sums, s, tiles.v);
  write_rows<D>(tiles.q, first, sums[0], factor[0], factor[1], y.rows + head.b * y.sequence + head.h * in.width + first * y.row, y.row, in.queries - first,
                in.width, in.packs);
}

template <int warps, int D>
struct BackwardTiles {
  TileRows<16 * warps, D> q, k, v, dy;
  TileRows<16 * warps, 16 * warps> p, ds;  // (query, key)
};

// Warp w computes the weights p and the gradients ds of the scores of its 16 queries and their dq; then dk and dv of keys 16 w .. 16 w + 15.
// With dp = dy v^T: delta = sum_j p keep dp (= dy . y, so y is not read), ds = p (keep dp - delta) scale; dq = ds k, dk = ds^T q,
// dv = (p keep)^T dy. 14 T d bytes and 10 T T d FLOPs per head.
template <int warps, int D>
__global__ void __launch_bounds__(warps* warp_size)
    middle_backward(AttentionInput<bfloat16> in, AttentionRows<const bfloat16> dy, const float* log_sum_exp, AttentionGradients<bfloat16> out) {
  constexpr int threads = warps * warp_size, N = 2 * warps;
  auto& tiles = shared_memory<BackwardTiles<warps, D>>();
  const AttentionHead<bfloat16> head(in, blockIdx.x);
  load_tile<threads>(tiles.q, head.q, in.q_row, in.queries, in.width, in.packs);
  load_tile<threads>(tiles.k, head.k, in.k_row, in.queries, in.width, in.packs);
  load_tile<threads>(tiles.dy, dy.rows + head.b * dy.sequence + head.h * in.width, dy.row, in.queries, in.width, in.packs);
  load_tile<threads>(tiles.v, head.v, in.k_row, in.queries, in.width, in.packs);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % warp_size, first = static_cast<int>(threadIdx.x) / warp_size * 16, valid = in.queries - first;
  float p[1][N][4], ds[1][N][4];
  {
    LeftRows<1, D> rows;
    rows.load(tiles.q, first);
    multiply_transposed(p, rows, tiles.k);
    rows.load(tiles.dy, first);
    multiply_transposed(ds, rows, tiles.v);
  }
  mask(head, first, in.scale * log2_e, p[0]);
  const AttentionDropout dropout(in, head.pair);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first + lane / 4 + 8 * half;
    const float lse = query < in.queries ? log_sum_exp[head.pair * in.queries + query] * log2_e : 0.0f;
    float delta = 0, keep[N][2];
#pragma unroll
    for (int n = 0; n < N; ++n) {
      keep[n][0] = keep[n][1] = 1;
      if (dropout.active()) dropout.multiply_pair(query, 8 * n + 2 * (lane % 4), keep[n][0], keep[n][1]);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float &weight = p[0][n][2 * half + e], &dp = ds[0][n][2 * half + e];
        weight = fast_exp2(weight - lse);
        dp *= keep[n][e];
        delta += weight * dp;
      }
    }
    delta = row_sum(delta);
    const float factor = head.sees_none(query) ? 0.0f : in.scale;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float &weight = p[0][n][2 * half + e], &dp = ds[0][n][2 * half + e];
        dp = weight * (dp - delta) * factor;
        weight *= keep[n][e];
      }
  }
  write_to_tile(tiles.p, first, p[0]);
  write_to_tile(tiles.ds, first, ds[0]);
  const auto at = [&](const AttentionRows<bfloat16>& x) { return x.rows + head.b * x.sequence + head.h * in.width + first * x.row; };
  float sums[1][D / 8][4] = {};
  add_product(sums, ds, tiles.k);
  __syncthreads();
  // All rows of v have been used; each warp has 16 rows of its tile for its results.
  write_rows<D>(tiles.v, first, sums[0], 1, 1, at(out.dq), out.dq.row, valid, in.width, in.packs);
  const auto add_transposed = [&](const auto& left, const auto& right) {
#pragma unroll
    for (int c = 0; c < D / 8; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[0][c][i] = 0;
#pragma unroll
    for (int step = 0; step < warps; ++step) {
      std::uint32_t a[1][4];
      left_factor_transposed(a[0], left, first, step);
      add_product(sums, a, right, step);
    }
  };
  add_transposed(tiles.ds, tiles.q);
  write_rows<D>(tiles.v, first, sums[0], 1, 1, at(out.dk), out.dk.row, valid, in.width, in.packs);
  add_transposed(tiles.p, tiles.dy);
  write_rows<D>(tiles.v, first, sums[0], 1, 1, at(out.dv), out.dv.row, valid, in.width, in.packs);
}

// Runs f.operator()<warps, D>().
template <class F>
void for_shape(const AttentionInput<bfloat16>& in, F&& f) {
  const auto with_width = [&]<int D>() {
    if (in.queries <= 32)
      f.template operator()<2, D>();
    else if (in.queries <= 48)
      f.template operator()<3, D>();
    else
      f.template operator()<4, D>();
  };
  if (in.width <= 64)
    with_width.template operator()<64>();
  else
    with_width.template operator()<128>();
}

}  // namespace

void attention_forward_middle(const AttentionInput<bfloat16>& in, const AttentionRows<bfloat16>& y, float* log_sum_exp) {
  for_shape(in, [&]<int warps, int D>() {
    launch<middle_forward<warps, D>>(attention_blocks(in, 1), warps * warp_size, sizeof(ForwardTiles<warps, D>), in, y, log_sum_exp);
  });
}

void attention_backward_middle(const AttentionInput<bfloat16>& in, const AttentionRows<const bfloat16>& dy, const float* log_sum_exp,
                               const AttentionGradients<bfloat16>& out) {
  for_shape(in, [&]<int warps, int D>() {
    launch<middle_backward<warps, D>>(attention_blocks(in, 1), warps * warp_size, sizeof(BackwardTiles<warps, D>), in, dy, log_sum_exp, out);
  });
}

}  // namespace mblm::cuda
