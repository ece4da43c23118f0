// Attention without tensor cores: float32 of any length and width, and bfloat16 of the widths that the tiles do not hold.
#include "cuda/attention.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

constexpr int slab = 64;            // channels in shared memory at a time
constexpr int slab_row = slab + 4;  // padding: rows start in different banks, for 16-byte reads

// A tile has `size` queries and `size` keys. The threads form a grid of `across` x `down`; a thread has rows y, y + down, ... and
// columns x, x + across, ... of the scores, and the channels 4 (x + across g) + 0..3 of its rows of the sums. Each 16-byte read of
// shared memory then serves 16 products in the large tile.
template <int size_>
struct Layout {
  static constexpr int size = size_;
  static constexpr int across = size == 64 ? 16 : 4, down = size == 64 ? 16 : 8, threads = across * down;
  static constexpr int rows = size / down, columns = size / across, groups = slab / 4 / across;
  // Blocks per multiprocessor, at least. They bound the registers without spilling.
  static constexpr int forward_blocks = size == 64 ? 2 : 8, backward_blocks = size == 64 ? 1 : 8;
};
constexpr int small_tile = 16, large_tile = 64;  // small: one warp, for sequences of up to 16 tokens

template <int size>
struct Tiles {
  float a[size][slab_row], b[size][slab_row];
  float p[size][size + 4];
};

// to[r][c] = rows[first + r][channel + c], zero outside `count` rows and `width` channels.
template <class L, class T>
__device__ __forceinline__ void load_rows(float (&to)[L::size][slab_row], const T* rows, std::int64_t stride, int count, int channel, int width, bool packs) {
  const int thread = static_cast<int>(threadIdx.x);
  if (packs) {
    for (int i = thread; i < L::size * (slab / 4); i += L::threads) {
      const int r = i / (slab / 4), c = i % (slab / 4) * 4;
      float x[4] = {};
      if (r < count && channel + c < width) read_pack<4>(x, rows + r * stride + channel + c);
      write_pack<4>(&to[r][c], x);
    }
  } else {
    for (int i = thread; i < L::size * slab; i += L::threads) {
      const int r = i / slab, c = i % slab;
      to[r][c] = r < count && channel + c < width ? to_float(rows[r * stride + channel + c]) : 0.0f;
    }
  }
}

template <class L>
struct Scores {
  float v[L::rows][L::columns] = {};

  // += a b^T over one slab.
  __device__ __forceinline__ void add(const float (&a)[L::size][slab_row], const float (&b)[L::size][slab_row]) {
    const int x = static_cast<int>(threadIdx.x) % L::across, y = static_cast<int>(threadIdx.x) / L::across;
#pragma unroll 4
    for (int c = 0; c < slab; c += 4) {
      float left[L::rows][4], right[L::columns][4];
#pragma unroll
      for (int i = 0; i < L::rows; ++i) read_pack<4>(left[i], &a[y + L::down * i][c]);
#pragma unroll
      for (int j = 0; j < L::columns; ++j) read_pack<4>(right[j], &b[x + L::across * j][c]);
#pragma unroll
      for (int e = 0; e < 4; ++e)
#pragma unroll
        for (int i = 0; i < L::rows; ++i)
#pragma unroll
          for (int j = 0; j < L::columns; ++j) v[i][j] += left[i][e] * right[j][e];
    }
  }
  __device__ __forceinline__ void store(float (&p)[L::size][L::size + 4]) const {
    const int x = static_cast<int>(threadIdx.x) % L::across, y = static_cast<int>(threadIdx.x) / L::across;
#pragma unroll
    for (int i = 0; i < L::rows; ++i)
#pragma unroll
      for (int j = 0; j < L::columns; ++j) p[y + L::down * i][x + L::across * j] = v[i][j];
  }
};

template <class L>
struct Sums {
  float v[L::rows][L::groups][4] = {};

  // += p b
  __device__ __forceinline__ void add(const float (&p)[L::size][L::size + 4], const float (&b)[L::size][slab_row]) {
    const int x = static_cast<int>(threadIdx.x) % L::across, y = static_cast<int>(threadIdx.x) / L::across;
#pragma unroll 2
    for (int n = 0; n < L::size; n += 4) {
      float weights[L::rows][4];
#pragma unroll
      for (int i = 0; i < L::rows; ++i) read_pack<4>(weights[i], &p[y + L::down * i][n]);
#pragma unroll
      for (int e = 0; e < 4; ++e)
#pragma unroll
        for (int g = 0; g < L::groups; ++g) {
          float values[4];
          read_pack<4>(values, &b[n + e][4 * (x + L::across * g)]);
#pragma unroll
          for (int i = 0; i < L::rows; ++i)
#pragma unroll
            for (int c = 0; c < 4; ++c) v[i][g][c] += weights[i][e] * values[c];
        }
    }
  }
  __device__ __forceinline__ void scale(int i, float factor) {
#pragma unroll
    for (int g = 0; g < L::groups; ++g)
#pragma unroll
      for (int c = 0; c < 4; ++c) v[i][g][c] *= factor;
  }
  // Writes `count` rows.
  template <class T>
  __device__ __forceinline__ void write(T* rows, std::int64_t stride, int count, int channel, int width, bool packs) const {
    const int x = static_cast<int>(threadIdx.x) % L::across, y = static_cast<int>(threadIdx.x) / L::across;
#pragma unroll
    for (int i = 0; i < L::rows; ++i) {
      const int r = y + L::down * i;
      if (r >= count) continue;
#pragma unroll
      for (int g = 0; g < L::groups; ++g) {
        const int c = channel + 4 * (x + L::across * g);
        if (packs) {
          if (c < width) write_pack<4>(rows + r * stride + c, v[i][g]);
        } else {
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (c + e < width) rows[r * stride + c + e] = from_float<T>(v[i][g][e]);
        }
      }
    }
  }
};

// scores += a b^T over all channels. The caller's tiles are free on entry and on return.
template <class L, class T>
__device__ __forceinline__ void multiply_rows(Tiles<L::size>& tiles, Scores<L>& scores, const T* a, std::int64_t a_stride, int a_count, const T* b,
                                              std::int64_t b_stride, int b_count, int width, bool packs) {
  for (int channel = 0; channel < width; channel += slab) {
    load_rows<L>(tiles.a, a, a_stride, a_count, channel, width, packs);
    load_rows<L>(tiles.b, b, b_stride, b_count, channel, width, packs);
    __syncthreads();
    scores.add(tiles.a, tiles.b);
    __syncthreads();
  }
}

// The part of the problem that a block computes: a tile of one head, and one slab of the channels of the result.
struct Part {
  std::int64_t pair;
  int first, channel;
};
template <class L>
__device__ __forceinline__ Part part_of(int tokens, int width, bool last_first) {
  const int slabs = (width + slab - 1) / slab, tiles = (tokens + L::size - 1) / L::size;
  const std::int64_t index = std::int64_t{blockIdx.x} / slabs;
  const int tile = static_cast<int>(index % tiles);
  return {index / tiles, (last_first ? tiles - 1 - tile : tile) * L::size, static_cast<int>(blockIdx.x % static_cast<unsigned>(slabs)) * slab};
}

// p = the dropout factors of this thread's elements of a tile, in a loop that is not unrolled: the code of a factor is long. Rows are
// queries, or keys if `transposed`.
template <class L, bool transposed>
__device__ __forceinline__ void store_factors(float (&p)[L::size][L::size + 4], const AttentionDropout& dropout, int first_row, int first_column) {
  const int x = static_cast<int>(threadIdx.x) % L::across, y = static_cast<int>(threadIdx.x) / L::across;
#pragma unroll 1
  for (int i = 0; i < L::rows * L::columns; ++i) {
    const int r = y + L::down * (i / L::columns), c = x + L::across * (i % L::columns);
    p[r][c] = transposed ? dropout.factor(first_column + c, first_row + r) : dropout.factor(first_row + r, first_column + c);
  }
}

// Block: a tile of queries of one head and a slab of the channels of y; it goes through the tiles of keys with an online softmax, so
// wider heads compute the scores once per slab. Tiles of queries are started from the end, where causal attention has most keys.
// 4 T d FLOPs per query and head (half if causal). All sums are float32.
template <class L, class T>
__global__ void __launch_bounds__(L::threads, L::forward_blocks) plain_forward(AttentionInput<T> in, AttentionRows<T> y, float* log_sum_exp) {
  auto& tiles = shared_memory<Tiles<L::size>>();
  const int x = static_cast<int>(threadIdx.x) % L::across, row = static_cast<int>(threadIdx.x) / L::across;
  const Part part = part_of<L>(in.queries, in.width, true);
  const AttentionHead<T> head(in, part.pair);
  const AttentionDropout dropout(in, part.pair);
  const int count = smaller(L::size, in.queries - part.first), end = head.key_end(part.first, count);
  Sums<L> sums;
  float largest[L::rows], total[L::rows] = {};
#pragma unroll
  for (int i = 0; i < L::rows; ++i) largest[i] = -INFINITY;
  for (int first_key = 0; first_key < end; first_key += L::size) {
    const int keys = smaller(L::size, head.keys - first_key);
    Scores<L> s;
    multiply_rows<L>(tiles, s, head.q + part.first * in.q_row, in.q_row, count, head.k + first_key * in.k_row, in.k_row, keys, in.width, in.packs);
    if (dropout.active()) store_factors<L, false>(tiles.p, dropout, part.first, first_key);
#pragma unroll
    for (int i = 0; i < L::rows; ++i) {
      const int query = part.first + row + L::down * i;
      float top = largest[i], sum = 0;
#pragma unroll
      for (int j = 0; j < L::columns; ++j) {
        s.v[i][j] = head.masked(query, first_key + x + L::across * j, s.v[i][j] * in.scale);
        top = fmaxf(top, s.v[i][j]);
      }
#pragma unroll
      for (int bits = L::across / 2; bits > 0; bits /= 2) top = fmaxf(top, __shfl_xor_sync(all_lanes, top, bits));
      const float base = top == -INFINITY ? 0.0f : top;  // no key yet: every weight is exp(-inf)
#pragma unroll
      for (int j = 0; j < L::columns; ++j) {
        s.v[i][j] = scalar::exp(s.v[i][j] - base);
        sum += s.v[i][j];
        if (dropout.active()) s.v[i][j] *= tiles.p[row + L::down * i][x + L::across * j];
      }
#pragma unroll
      for (int bits = L::across / 2; bits > 0; bits /= 2) sum += __shfl_xor_sync(all_lanes, sum, bits);
      const float factor = scalar::exp(largest[i] - base);
      total[i] = total[i] * factor + sum;
      largest[i] = top;
      sums.scale(i, factor);
    }
    s.store(tiles.p);
    load_rows<L>(tiles.b, head.v + first_key * in.k_row, in.k_row, keys, part.channel, in.width, in.packs);
    __syncthreads();
    sums.add(tiles.p, tiles.b);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < L::rows; ++i) {
    const int query = part.first + row + L::down * i;
    sums.scale(i, 1 / total[i]);
    if (part.channel == 0 && x == 0 && query < in.queries)
      log_sum_exp[part.pair * in.queries + query] = largest[i] + logf(total[i]);
  }
  sums.write(y.rows + head.b * y.sequence + head.h * in.width + part.first * y.row, y.row, count, part.channel, in.width, in.packs);
}

// Weight p of a query and a key, and gradient ds of their scaled score, from the score, dp = dy . v and the dropout factor `keep`:
// p = exp(s - log-sum-exp), ds = p (keep dp - delta) scale; then p is multiplied by keep. A query without a visible key has constant
// weights, so its ds is 0.
template <class T>
__device__ __forceinline__ void weight_gradient(const AttentionInput<T>& in, const AttentionHead<T>& head, int query, int key, float keep,
                                                float log_sum_exp, float delta, float& s, float& dp) {
  const float p = query < in.queries ? scalar::exp(head.masked(query, key, s * in.scale) - log_sum_exp) : 0.0f;
  dp = head.sees_none(query) ? 0.0f : p * (keep * dp - delta) * in.scale;
  s = p * keep;
}

// Block: a tile of queries of one head and a slab of the channels of dq. It goes through the tiles of keys in order.
template <class L, class T>
__global__ void __launch_bounds__(L::threads, L::backward_blocks)
    plain_backward_queries(AttentionInput<T> in, AttentionRows<const T> dy, const float* log_sum_exp, const float* delta, AttentionRows<T> dq) {
  auto& tiles = shared_memory<Tiles<L::size>>();
  const int x = static_cast<int>(threadIdx.x) % L::across, row = static_cast<int>(threadIdx.x) / L::across;
  const Part part = part_of<L>(in.queries, in.width, true);
  const AttentionHead<T> head(in, part.pair);
  const AttentionDropout dropout(in, part.pair);
  const int count = smaller(L::size, in.queries - part.first), end = head.key_end(part.first, count);
  const T* dy_rows = dy.rows + head.b * dy.sequence + head.h * in.width + part.first * dy.row;
  float lse[L::rows], dots[L::rows];
#pragma unroll
  for (int i = 0; i < L::rows; ++i) {
    const int query = part.first + row + L::down * i;
    lse[i] = query < in.queries ? log_sum_exp[part.pair * in.queries + query] : 0.0f;
    dots[i] = query < in.queries ? delta[part.pair * in.queries + query] : 0.0f;
  }
  Sums<L> sums;
  for (int first_key = 0; first_key < end; first_key += L::size) {
    const int keys = smaller(L::size, head.keys - first_key);
    Scores<L> s, dp;
    multiply_rows<L>(tiles, s, head.q + part.first * in.q_row, in.q_row, count, head.k + first_key * in.k_row, in.k_row, keys, in.width, in.packs);
    multiply_rows<L>(tiles, dp, dy_rows, dy.row, count, head.v + first_key * in.k_row, in.k_row, keys, in.width, in.packs);
    if (dropout.active()) store_factors<L, false>(tiles.p, dropout, part.first, first_key);
#pragma unroll
    for (int i = 0; i < L::rows; ++i)
#pragma unroll
      for (int j = 0; j < L::columns; ++j) {
        const int r = row + L::down * i, c = x + L::across * j;
        const float keep = dropout.active() ? tiles.p[r][c] : 1.0f;
        weight_gradient(in, head, part.first + r, first_key + c, keep, lse[i], dots[i], s.v[i][j], dp.v[i][j]);
      }
    dp.store(tiles.p);
    load_rows<L>(tiles.b, head.k + first_key * in.k_row, in.k_row, keys, part.channel, in.width, in.packs);
    __syncthreads();
    sums.add(tiles.p, tiles.b);
    __syncthreads();
  }
  sums.write(dq.rows + head.b * dq.sequence + head.h * in.width + part.first * dq.row, dq.row, count, part.channel, in.width, in.packs);
}

// Block: a tile of keys of one head and a slab of the channels of dk and dv. It goes through the tiles of queries in order, with the
// scores transposed: rows are keys.
template <class L, class T>
__global__ void __launch_bounds__(L::threads, L::backward_blocks) plain_backward_keys(AttentionInput<T> in, AttentionRows<const T> dy, const float* log_sum_exp,
                                                                  const float* delta, AttentionRows<T> dk, AttentionRows<T> dv) {
  auto& tiles = shared_memory<Tiles<L::size>>();
  const int x = static_cast<int>(threadIdx.x) % L::across, row = static_cast<int>(threadIdx.x) / L::across;
  const Part part = part_of<L>(in.keys, in.width, false);
  const AttentionHead<T> head(in, part.pair);
  const AttentionDropout dropout(in, part.pair);
  const int keys = smaller(L::size, in.keys - part.first);
  const T* dy_rows = dy.rows + head.b * dy.sequence + head.h * in.width;
  const T *k = head.k + part.first * in.k_row, *v = head.v + part.first * in.k_row;
  Sums<L> sum_k, sum_v;
  for (int first = head.query_begin(part.first, L::size); first < in.queries; first += L::size) {
    const int count = smaller(L::size, in.queries - first);
    const T *q = head.q + first * in.q_row, *dy_tile = dy_rows + first * dy.row;
    Scores<L> s, dp;
    multiply_rows<L>(tiles, s, k, in.k_row, keys, q, in.q_row, count, in.width, in.packs);
    multiply_rows<L>(tiles, dp, v, in.k_row, keys, dy_tile, dy.row, count, in.width, in.packs);
    if (dropout.active()) store_factors<L, true>(tiles.p, dropout, part.first, first);
#pragma unroll
    for (int j = 0; j < L::columns; ++j) {
      const int query = first + x + L::across * j;
      const std::int64_t at = part.pair * in.queries + smaller(query, in.queries - 1);
      const float lse = log_sum_exp[at], dot = delta[at];
#pragma unroll
      for (int i = 0; i < L::rows; ++i) {
        const int r = row + L::down * i;
        const float keep = dropout.active() ? tiles.p[r][x + L::across * j] : 1.0f;
        weight_gradient(in, head, query, part.first + r, keep, lse, dot, s.v[i][j], dp.v[i][j]);
      }
    }
    s.store(tiles.p);
    load_rows<L>(tiles.a, q, in.q_row, count, part.channel, in.width, in.packs);
    load_rows<L>(tiles.b, dy_tile, dy.row, count, part.channel, in.width, in.packs);
    __syncthreads();
    sum_v.add(tiles.p, tiles.b);
    __syncthreads();
    dp.store(tiles.p);
    __syncthreads();
    sum_k.add(tiles.p, tiles.a);
    __syncthreads();
  }
  sum_k.write(dk.rows + head.b * dk.sequence + head.h * in.width + part.first * dk.row, dk.row, keys, part.channel, in.width, in.packs);
  sum_v.write(dv.rows + head.b * dv.sequence + head.h * in.width + part.first * dv.row, dv.row, keys, part.channel, in.width, in.packs);
}

// Runs f.operator()<Layout>() for the tile size of a sequence of `tokens`.
template <class F>
void for_tile_size(int tokens, F&& f) {
  if (tokens <= small_tile)
    f.template operator()<Layout<small_tile>>();
  else
    f.template operator()<Layout<large_tile>>();
}

template <class T>
unsigned parts(const AttentionInput<T>& in, int tokens, int tile) {
  return attention_blocks(in, divide_up(tokens, tile) * divide_up(in.width, slab));
}

}  // namespace

template <class T>
void attention_forward_plain(const AttentionInput<T>& in, const AttentionRows<T>& y, float* log_sum_exp) {
  for_tile_size(in.keys, [&]<class L>() {
    launch<plain_forward<L, T>>(parts(in, in.queries, L::size), L::threads, sizeof(Tiles<L::size>), in, y, log_sum_exp);
  });
}

template <class T>
void attention_backward_plain(const AttentionInput<T>& in, const AttentionRows<const T>& dy, const float* log_sum_exp, const float* delta,
                              const AttentionGradients<T>& out) {
  for_tile_size(in.keys, [&]<class L>() {
    launch<plain_backward_queries<L, T>>(parts(in, in.queries, L::size), L::threads, sizeof(Tiles<L::size>), in, dy, log_sum_exp, delta, out.dq);
    launch<plain_backward_keys<L, T>>(parts(in, in.keys, L::size), L::threads, sizeof(Tiles<L::size>), in, dy, log_sum_exp, delta, out.dk, out.dv);
  });
}

template void attention_forward_plain(const AttentionInput<float>&, const AttentionRows<float>&, float*);
template void attention_forward_plain(const AttentionInput<bfloat16>&, const AttentionRows<bfloat16>&, float*);
template void attention_backward_plain(const AttentionInput<float>&, const AttentionRows<const float>&, const float*, const float*,
                                       const AttentionGradients<float>&);
template void attention_backward_plain(const AttentionInput<bfloat16>&, const AttentionRows<const bfloat16>&, const float*, const float*,
                                       const AttentionGradients<bfloat16>&);

}  // namespace mblm::cuda
