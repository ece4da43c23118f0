// Attention over more than 64 tokens in bfloat16, in tiles with an online softmax (Dao, "FlashAttention-2", 2023). Bound by the tensor
// cores: 4 T T d FLOPs forward and 14 T T d backward per head (half if causal), for 8 T d and 28 T d bytes.
#include "cuda/attention_tile.h"

namespace mblm::cuda {
namespace {

constexpr int warps = 4, threads = warps * warp_size;
constexpr int key_tile = 64;       // keys, or in backward queries, per step: their scores fill 32 registers per lane and 16 rows
constexpr int row_tile = 16 * warps;
// Columns of scores at a time in backward: with 128 channels, the scores of a whole tile do not fit into the registers beside the sums.
template <int D>
constexpr int part_columns = D == 64 ? key_tile : key_tile / 2;

// Two tiles each: the next one is copied while the current one is used.
template <int D>
struct KeyTiles {
  TileRows<key_tile, D> k[2], v[2];
};

// Masks the scaled scores of the warp's 16 queries, in units of log 2.
template <int N>
__device__ __forceinline__ void mask(const AttentionHead<bfloat16>& head, int first_query, int first_key, float (&s)[N][4]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      s[n][i] = head.masked(first_query + lane / 4 + 8 * (i / 2), first_key + 8 * n + 2 * (lane % 4) + i % 2, s[n][i]);
}

template <int N>
__device__ __forceinline__ void drop(const AttentionDropout& dropout, int first_query, int first_key, float (&s)[N][4]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      dropout.multiply_pair(first_query + lane / 4 + 8 * half, first_key + 8 * n + 2 * (lane % 4), s[n][2 * half], s[n][2 * half + 1]);
}

template <int D>
__device__ __forceinline__ void load_keys(KeyTiles<D>& tiles, int at, const AttentionInput<bfloat16>& in, const AttentionHead<bfloat16>& head, int first) {
  const int valid = head.keys - first;
  load_tile<threads>(tiles.k[at], head.k + first * in.k_row, in.k_row, valid, in.width, in.packs);
  load_tile<threads>(tiles.v[at], head.v + first * in.k_row, in.k_row, valid, in.width, in.packs);
}

// The tile of rows of this block; the last rows, which have most keys when causal, start first.
struct Part {
  std::int64_t pair;
  int first;
};
__device__ __forceinline__ Part part_of(int tokens, int rows, bool last_first) {
  const int tiles = (tokens + rows - 1) / rows, tile = static_cast<int>(blockIdx.x % static_cast<unsigned>(tiles));
  return {blockIdx.x / static_cast<unsigned>(tiles), (last_first ? tiles - 1 - tile : tile) * rows};
}

// Block: 64 groups queries of one head; a warp has `groups` times 16 of them, so that each right factor read from shared memory is used
// `groups` times. `drops`: with dropout.
template <int D, int groups, bool drops>
__global__ void __launch_bounds__(threads) long_forward(AttentionInput<bfloat16> in, AttentionRows<bfloat16> y, float* log_sum_exp) {
  auto& tiles = shared_memory<KeyTiles<D>>();
  const Part part = part_of(in.queries, row_tile * groups, true);
  const AttentionHead<bfloat16> head(in, part.pair);
  const AttentionDropout dropout(in, part.pair);
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const int count = smaller(row_tile * groups, in.queries - part.first), end = head.key_end(part.first, count);
  // Group m of warp w has queries 64 m + 16 w + 0..15: tile m is staged in k[m].
  const auto query_of = [&](int m) { return part.first + row_tile * m + 16 * warp; };
  LeftRows<groups, D> q;
#pragma unroll
  for (int m = 0; m < groups; ++m) {
    const int first = part.first + row_tile * m;
    load_tile<threads>(tiles.k[m], head.q + first * in.q_row, in.q_row, in.queries - first, in.width, in.packs);
  }
  commit_copies();
  wait_copies<0>();
  __syncthreads();
#pragma unroll
  for (int m = 0; m < groups; ++m)
#pragma unroll
    for (int step = 0; step < D / 16; ++step) left_factor(q.v[m][step], tiles.k[m], 16 * warp, step);
  __syncthreads();
  load_keys(tiles, 0, in, head, 0);
  commit_copies();
  float sums[groups][D / 8][4] = {}, largest[groups][2], total[groups][2] = {};
#pragma unroll
  for (int m = 0; m < groups; ++m) largest[m][0] = largest[m][1] = -INFINITY;
  const float scale = in.scale * log2_e;
  for (int first_key = 0; first_key < end; first_key += key_tile) {
    const int at = first_key / key_tile % 2;
    if (first_key + key_tile < end) load_keys(tiles, 1 - at, in, head, first_key + key_tile);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    constexpr int N = key_tile / 8;
    float s[groups][N][4];
    multiply_transposed(s, q, tiles.k[at]);
#pragma unroll
    for (int m = 0; m < groups; ++m) {
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) s[m][n][i] *= scale;
      if (!head.sees_all(query_of(m), first_key + key_tile)) mask(head, query_of(m), first_key, s[m]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float top = largest[m][half];
#pragma unroll
        for (int n = 0; n < N; ++n) top = fmaxf(top, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        top = row_max(top);
        const float base = top == -INFINITY ? 0.0f : top;  // no key yet: every weight is 2^-inf
        const float factor = fast_exp2(largest[m][half] - base);
        largest[m][half] = top;
        float sum = 0;  // of this lane's columns; the lanes are added at the end
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            s[m][n][i] = fast_exp2(s[m][n][i] - base);
            sum += s[m][n][i];
          }
        total[m][half] = total[m][half] * factor + sum;
#pragma unroll
        for (int c = 0; c < D / 8; ++c) {
          sums[m][c][2 * half] *= factor;
          sums[m][c][2 * half + 1] *= factor;
        }
      }
      if constexpr (drops) drop(dropout, query_of(m), first_key, s[m]);
    }
    add_product(sums, s, tiles.v[at]);
    __syncthreads();
  }
  wait_copies<0>();
#pragma unroll
  for (int m = 0; m < groups; ++m) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = query_of(m) + lane / 4 + 8 * half;
      const float sum = row_sum(total[m][half]);
      factor[half] = 1 / sum;
      if (lane % 4 == 0 && query < in.queries)
        log_sum_exp[part.pair * in.queries + query] = largest[m][half] / log2_e + logf(sum);
    }
    write_rows<D>(tiles.k[0], 16 * warp, sums[m], factor[0], factor[1], y.rows + head.b * y.sequence + head.h * in.width + query_of(m) * y.row, y.row,
                  in.queries - query_of(m), in.width, in.packs);
  }
}

// Block: 64 queries of one head. Goes through the tiles of keys in order:
// p = exp(s - log-sum-exp), dp = dy v^T, ds = p (keep dp - delta) scale, dq += ds k. A query without a visible key has ds = 0.
template <int D, bool drops>
__global__ void __launch_bounds__(threads) long_backward_queries(AttentionInput<bfloat16> in, AttentionRows<const bfloat16> dy, const float* log_sum_exp,
                                                                 const float* delta, AttentionRows<bfloat16> dq) {
  auto& tiles = shared_memory<KeyTiles<D>>();
  const Part part = part_of(in.queries, row_tile, true);
  const AttentionHead<bfloat16> head(in, part.pair);
  const AttentionDropout dropout(in, part.pair);
  const int lane = static_cast<int>(threadIdx.x) % warp_size, first_row = static_cast<int>(threadIdx.x) / warp_size * 16, first = part.first + first_row;
  const int count = smaller(row_tile, in.queries - part.first), end = head.key_end(part.first, count);
  LeftRows<1, D> q, g;
  load_tile<threads>(tiles.k[0], head.q + part.first * in.q_row, in.q_row, count, in.width, in.packs);
  load_tile<threads>(tiles.v[0], dy.rows + head.b * dy.sequence + head.h * in.width + part.first * dy.row, dy.row, count, in.width, in.packs);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  q.load(tiles.k[0], first_row);
  g.load(tiles.v[0], first_row);
  float lse[2], dots[2], factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first + lane / 4 + 8 * half;
    const std::int64_t at = part.pair * in.queries + smaller(query, in.queries - 1);
    lse[half] = log_sum_exp[at] * log2_e;
    dots[half] = delta[at];
    factor[half] = head.sees_none(query) ? 0.0f : in.scale;
  }
  __syncthreads();
  load_keys(tiles, 0, in, head, 0);
  commit_copies();
  float sums[1][D / 8][4] = {};
  const float scale = in.scale * log2_e;
  for (int first_key = 0; first_key < end; first_key += key_tile) {
    const int at = first_key / key_tile % 2;
    if (first_key + key_tile < end) load_keys(tiles, 1 - at, in, head, first_key + key_tile);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    constexpr int columns = part_columns<D>, N = columns / 8;
#pragma unroll 1
    for (int column = 0; column < key_tile; column += columns) {
      const auto &k = rows_from<columns>(tiles.k[at], column), &v = rows_from<columns>(tiles.v[at], column);
      float s[1][N][4], dp[1][N][4];
      multiply_transposed(s, q, k);
      multiply_transposed(dp, g, v);
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) s[0][n][i] *= scale;
      if (!head.sees_all(first, first_key + key_tile)) mask(head, first, first_key + column, s[0]);
      if constexpr (drops) drop(dropout, first, first_key + column, dp[0]);
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) dp[0][n][i] = fast_exp2(s[0][n][i] - lse[i / 2]) * (dp[0][n][i] - dots[i / 2]) * factor[i / 2];
      add_product(sums, dp, k);
    }
    __syncthreads();
  }
  wait_copies<0>();
  write_rows<D>(tiles.k[0], first_row, sums[0], 1, 1, dq.rows + head.b * dq.sequence + head.h * in.width + first * dq.row, dq.row, in.queries - first,
                in.width, in.packs);
}

// The keys and values of the block, and two tiles of queries with their log-sum-exp (in units of log 2) and delta.
template <int D>
struct QueryTiles {
  TileRows<row_tile, D> k, v;
  TileRows<key_tile, D> q[2], dy[2];
  alignas(16) float log_sum_exp[2][key_tile], delta[2][key_tile];
};

template <int D>
__device__ __forceinline__ void load_queries(QueryTiles<D>& tiles, int at, const AttentionInput<bfloat16>& in, const AttentionHead<bfloat16>& head,
                                             const AttentionRows<const bfloat16>& dy, const float* log_sum_exp, const float* delta, int first) {
  const int valid = in.queries - first;
  load_tile<threads>(tiles.q[at], head.q + first * in.q_row, in.q_row, valid, in.width, in.packs);
  load_tile<threads>(tiles.dy[at], dy.rows + head.b * dy.sequence + head.h * in.width + first * dy.row, dy.row, valid, in.width, in.packs);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t from = head.pair * in.queries + first + thread;
  if (thread >= key_tile) return;
  tiles.log_sum_exp[at][thread] = thread < valid ? log_sum_exp[from] * log2_e : INFINITY;  // no query: the weights are 2^-inf
  tiles.delta[at][thread] = thread < valid ? delta[from] : 0.0f;
}

// Block: 64 keys of one head. Goes through the tiles of queries in order, with transposed scores, whose rows are keys:
// dv += (p keep)^T dy, dk += ds^T q.
template <int D, bool drops>
__global__ void __launch_bounds__(threads) long_backward_keys(AttentionInput<bfloat16> in, AttentionRows<const bfloat16> dy, const float* log_sum_exp,
                                                              const float* delta, AttentionRows<bfloat16> dk, AttentionRows<bfloat16> dv) {
  auto& tiles = shared_memory<QueryTiles<D>>();
  const Part part = part_of(in.keys, row_tile, false);
  const AttentionHead<bfloat16> head(in, part.pair);
  const AttentionDropout dropout(in, part.pair);
  const int lane = static_cast<int>(threadIdx.x) % warp_size, first_row = static_cast<int>(threadIdx.x) / warp_size * 16, first = part.first + first_row;
  load_tile<threads>(tiles.k, head.k + part.first * in.k_row, in.k_row, in.keys - part.first, in.width, in.packs);
  load_tile<threads>(tiles.v, head.v + part.first * in.k_row, in.k_row, in.keys - part.first, in.width, in.packs);
  const int begin = head.query_begin(part.first, key_tile);
  load_queries(tiles, 0, in, head, dy, log_sum_exp, delta, begin);
  commit_copies();
  float sums_k[1][D / 8][4] = {}, sums_v[1][D / 8][4] = {};
  const float scale = in.scale * log2_e;
  for (int query = begin; query < in.queries; query += key_tile) {
    const int at = (query - begin) / key_tile % 2;
    if (query + key_tile < in.queries) load_queries(tiles, 1 - at, in, head, dy, log_sum_exp, delta, query + key_tile);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const bool masks = !head.sees_all(query, part.first + row_tile);
    constexpr int columns = part_columns<D>, N = columns / 8;
#pragma unroll 1
    for (int column = 0; column < key_tile; column += columns) {
      const auto &q_rows = rows_from<columns>(tiles.q[at], column), &dy_rows = rows_from<columns>(tiles.dy[at], column);
      float p[1][N][4], ds[1][N][4];
      {
        LeftRows<1, D> left;
        left.load(tiles.k, first_row);
        multiply_transposed(p, left, q_rows);
        left.load(tiles.v, first_row);
        multiply_transposed(ds, left, dy_rows);
      }
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const int c = column + 8 * n + 2 * (lane % 4);
        const float2 lse = *reinterpret_cast<const float2*>(&tiles.log_sum_exp[at][c]), dots = *reinterpret_cast<const float2*>(&tiles.delta[at][c]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int q = query + c + i % 2, key = first + lane / 4 + 8 * (i / 2);
          float s = p[0][n][i] * scale;
          if (masks) s = head.masked(q, key, s);
          const float weight = fast_exp2(s - (i % 2 == 0 ? lse.x : lse.y));
          float keep = 1;
          if constexpr (drops) keep = dropout.factor(q, key);
          const float gradient = weight * (keep * ds[0][n][i] - (i % 2 == 0 ? dots.x : dots.y)) * in.scale;
          ds[0][n][i] = masks && head.sees_none(q) ? 0.0f : gradient;
          p[0][n][i] = weight * keep;
        }
      }
      add_product(sums_v, p, dy_rows);
      add_product(sums_k, ds, q_rows);
    }
    __syncthreads();
  }
  wait_copies<0>();
  __syncthreads();
  const std::int64_t head_at = head.h * in.width;
  const int valid = in.keys - first;
  write_rows<D>(tiles.k, first_row, sums_k[0], 1, 1, dk.rows + head.b * dk.sequence + head_at + first * dk.row, dk.row, valid, in.width, in.packs);
  write_rows<D>(tiles.k, first_row, sums_v[0], 1, 1, dv.rows + head.b * dv.sequence + head_at + first * dv.row, dv.row, valid, in.width, in.packs);
}

// Runs f.operator()<D, drops>().
template <class F>
void for_shape(const AttentionInput<bfloat16>& in, F&& f) {
  const auto with_width = [&]<int D>() {
    if (in.drop_below > 0)
      f.template operator()<D, true>();
    else
      f.template operator()<D, false>();
  };
  if (in.width <= 64)
    with_width.template operator()<64>();
  else
    with_width.template operator()<128>();
}

}  // namespace

void attention_forward_long(const AttentionInput<bfloat16>& in, const AttentionRows<bfloat16>& y, float* log_sum_exp) {
  for_shape(in, [&]<int D, bool drops>() {
    constexpr int groups = D == 64 && !drops ? 2 : 1;  // two groups of 128 channels do not fit into the registers
    const unsigned blocks = attention_blocks(in, divide_up(in.queries, row_tile * groups));
    launch<long_forward<D, groups, drops>>(blocks, threads, sizeof(KeyTiles<D>), in, y, log_sum_exp);
  });
}

void attention_backward_long(const AttentionInput<bfloat16>& in, const AttentionRows<const bfloat16>& dy, const float* log_sum_exp,
                             const float* delta, const AttentionGradients<bfloat16>& out) {
  for_shape(in, [&]<int D, bool drops>() {
    const unsigned query_blocks = attention_blocks(in, divide_up(in.queries, row_tile)), key_blocks = attention_blocks(in, divide_up(in.keys, row_tile));
    launch<long_backward_queries<D, drops>>(query_blocks, threads, sizeof(KeyTiles<D>), in, dy, log_sum_exp, delta, out.dq);
    launch<long_backward_keys<D, drops>>(key_blocks, threads, sizeof(QueryTiles<D>), in, dy, log_sum_exp, delta, out.dk, out.dv);
  });
}

}  // namespace mblm::cuda
