// Attention of up to 16 tokens in bfloat16: the local sequences of the hierarchy, thousands per step. Bound by memory: qkv (and dy) is
// read once from DRAM and y (or dqkv) written once; everything between stays in the registers of one warp.
#include "cuda/attention.h"
#include "cuda/tensor_core.h"

namespace mblm::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_size;

// Tiles are laid out for mma.m16n8k16 (group = lane / 4, t = lane % 4) without going through shared memory:
// * `Rows`: a lane has the chunks of 8 channels t, t + 4, ... of rows group and group + 8, loaded 16 bytes at a time. A product over
//   channels may take them in any order, so chunk t of a row serves as columns 2t, 2t + 1, 2t + 8, 2t + 9 of two steps of 16.
// * `Columns`: a lane has one chunk of rows 2t, 2t + 1, 2t + 8, 2t + 9. As the right factor of a product over rows, channel j of the
//   chunk is column `group` of the j-th tile of 8 columns. Chunk group / 2 + 4 (group % 2) makes a lane's columns 2t and 2t + 1 of
//   the 8 tiles of the result the chunks t and t + 4 of its row: results are written like rows are read.
// halves: 1 for up to 8 tokens, 2 for up to 16. D: 64 or 128 channels, of which `width` exist.
using Chunk = std::uint32_t[4];

__device__ __forceinline__ void load_chunk(Chunk& x, const bfloat16* row, bool valid, int channel, int width, bool packs) {
  if (packs) {
    uint4 chunk = {};
    if (valid && channel < width) chunk = *reinterpret_cast<const uint4*>(row + channel);
    x[0] = chunk.x, x[1] = chunk.y, x[2] = chunk.z, x[3] = chunk.w;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = channel + 2 * i;
      const std::uint32_t low = valid && c < width ? row[c].bits : 0, high = valid && c + 1 < width ? row[c + 1].bits : 0;
      x[i] = low | high << 16;
    }
  }
}

__device__ __forceinline__ void store_chunk(bfloat16* row, int channel, int width, bool packs, const Chunk& x) {
  if (packs) {
    if (channel < width) *reinterpret_cast<uint4*>(row + channel) = make_uint4(x[0], x[1], x[2], x[3]);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = channel + 2 * i;
      if (c < width) row[c].bits = static_cast<std::uint16_t>(x[i]);
      if (c + 1 < width) row[c + 1].bits = static_cast<std::uint16_t>(x[i] >> 16);
    }
  }
}

struct Lane {
  int group, t, tokens, width;
  bool packs;
};

template <int D, int halves>
struct Rows {
  Chunk v[halves][D / 32];
  __device__ __forceinline__ void load(const Lane& lane, const bfloat16* rows, std::int64_t stride) {
#pragma unroll
    for (int half = 0; half < halves; ++half)
#pragma unroll
      for (int r = 0; r < D / 32; ++r) {
        const int row = lane.group + 8 * half;
        load_chunk(v[half][r], rows + row * stride, row < lane.tokens, 8 * (lane.t + 4 * r), lane.width, lane.packs);
      }
  }
};

template <int D, int halves>
struct Columns {
  Chunk v[D / 64][halves][2];
  __device__ __forceinline__ void load(const Lane& lane, const bfloat16* rows, std::int64_t stride) {
#pragma unroll
    for (int u = 0; u < D / 64; ++u)
#pragma unroll
      for (int half = 0; half < halves; ++half)
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
          const int row = 2 * lane.t + odd + 8 * half;
          load_chunk(v[u][half][odd], rows + row * stride, row < lane.tokens, 64 * u + 8 * (lane.group / 2 + 4 * (lane.group % 2)), lane.width, lane.packs);
        }
  }
};

// Scores of queries (rows group and group + 8) and keys 8 n + 2t + 0, 1: s = a b^T.
template <int halves>
using Scores = float[halves][4];
template <int D, int halves>
__device__ __forceinline__ void multiply(Scores<halves>& s, const Rows<D, halves>& a, const Rows<D, halves>& b) {
#pragma unroll
  for (int n = 0; n < halves; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = 0;
#pragma unroll
  for (int r = 0; r < D / 32; ++r)
#pragma unroll
    for (int step = 0; step < 4; step += 2) {
      const std::uint32_t left[4] = {a.v[0][r][step], halves == 2 ? a.v[halves - 1][r][step] : 0, a.v[0][r][step + 1],
                                     halves == 2 ? a.v[halves - 1][r][step + 1] : 0};
#pragma unroll
      for (int n = 0; n < halves; ++n) {
        const std::uint32_t right[2] = {b.v[n][r][step], b.v[n][r][step + 1]};
        mma_16x8x16(s[n], left, right);
      }
    }
}

// The left factor of a product over keys (16 x 16) from weights in the layout of the scores, and its transpose.
template <int halves>
__device__ __forceinline__ void to_left(std::uint32_t (&a)[4], const Scores<halves>& p) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    a[2 * n] = n < halves ? pack_bf16(p[n % halves][0], p[n % halves][1]) : 0;
    a[2 * n + 1] = n < halves && halves == 2 ? pack_bf16(p[n % halves][2], p[n % halves][3]) : 0;
  }
}
template <int halves>
__device__ __forceinline__ void transpose(std::uint32_t (&a)[4]) {
  a[0] = transpose_8x8(a[0]);
  if constexpr (halves == 2) {
    const std::uint32_t upper = transpose_8x8(a[2]);
    a[2] = transpose_8x8(a[1]);
    a[1] = upper;
    a[3] = transpose_8x8(a[3]);
  }
}

// rows = a b, times `factor[half]` for rows group and group + 8.
template <int D, int halves>
__device__ __forceinline__ void multiply_and_store(const Lane& lane, const std::uint32_t (&a)[4], const Columns<D, halves>& b, const float (&factor)[2],
                                                   bfloat16* rows, std::int64_t stride) {
#pragma unroll
  for (int u = 0; u < D / 64; ++u) {
    float c[8][4] = {};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      std::uint32_t right[2] = {};
#pragma unroll
      for (int half = 0; half < halves; ++half) {
        const std::uint32_t even = b.v[u][half][0][j / 2], odd = b.v[u][half][1][j / 2];
        right[half] = j % 2 == 0 ? (even & 0xffffu) | odd << 16 : even >> 16 | (odd & 0xffff0000u);
      }
      mma_16x8x16(c[j], a, right);
    }
#pragma unroll
    for (int half = 0; half < halves; ++half) {
      const int row = lane.group + 8 * half;
      if (row >= lane.tokens) continue;
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        Chunk out;
#pragma unroll
        for (int i = 0; i < 4; ++i) out[i] = pack_bf16(factor[half] * c[2 * i][2 * half + odd], factor[half] * c[2 * i + 1][2 * half + odd]);
        store_chunk(rows + row * stride, 64 * u + 8 * (lane.t + 4 * odd), lane.width, lane.packs, out);
      }
    }
  }
}

__device__ __forceinline__ std::int64_t pair_of_warp() { return std::int64_t{blockIdx.x} * warps + threadIdx.x / warp_size; }
__device__ __forceinline__ Lane lane_of(const AttentionInput<bfloat16>& in) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  return {lane / 4, lane % 4, in.queries, in.width, in.packs};
}

// A warp per sequence and head; the warps of a block have neighbouring heads, so their rows are contiguous. 8 T d bytes and 4 T T d
// FLOPs (as 16 to 64 mma) per head. Scores, weights and sums are float32; the product with v rounds the weights to bfloat16.
template <int D, int halves>
__global__ void __launch_bounds__(threads) short_forward(AttentionInput<bfloat16> in, AttentionRows<bfloat16> y, float* log_sum_exp) {
  const std::int64_t pair = pair_of_warp();
  if (pair >= in.batch * in.heads) return;
  const Lane lane = lane_of(in);
  const AttentionHead<bfloat16> head(in, pair);
  Rows<D, halves> q, k;
  Columns<D, halves> v;
  q.load(lane, head.q, in.q_row);
  k.load(lane, head.k, in.k_row);
  v.load(lane, head.v, in.k_row);
  Scores<halves> s;
  multiply(s, q, k);
  float factor[2] = {};
#pragma unroll
  for (int half = 0; half < halves; ++half) {
    const int query = lane.group + 8 * half;
    float top = -INFINITY, sum = 0;
#pragma unroll
    for (int n = 0; n < halves; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& score = s[n][2 * half + e];
        score = head.masked(query, 8 * n + 2 * lane.t + e, score * (in.scale * log2_e));
        top = fmaxf(top, score);
      }
    top = row_max(top);
#pragma unroll
    for (int n = 0; n < halves; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& weight = s[n][2 * half + e];
        weight = fast_exp2(weight - top);
        sum += weight;
      }
    sum = row_sum(sum);
    factor[half] = 1 / sum;
    if (lane.t == 0 && query < lane.tokens) log_sum_exp[pair * lane.tokens + query] = top / log2_e + logf(sum);
  }
  const AttentionDropout dropout(in, pair);
  if (dropout.active()) {
#pragma unroll
    for (int n = 0; n < halves; ++n)
#pragma unroll
      for (int i = 0; i < 2 * halves; ++i) s[n][i] *= dropout.factor(lane.group + 8 * (i / 2), 8 * n + 2 * lane.t + i % 2);
  }
  std::uint32_t a[4];
  to_left<halves>(a, s);
  multiply_and_store(lane, a, v, factor, y.rows + head.b * y.sequence + head.h * in.width, y.row);
}

// A warp per sequence and head. Recomputes the weights p from the log-sum-exp. With dp = dy v^T: delta = sum_j p keep dp (= dy . y, so y is
// not read), ds = p (keep dp - delta) scale; dq = ds k, dk = ds^T q, dv = (p keep)^T dy. The second layout of q, k and dy is read again
// from the L1 cache. 14 T d bytes and 10 T T d FLOPs per head. Sums are float32; products round p and ds to bfloat16.
template <int D, int halves>
__global__ void __launch_bounds__(threads)
    short_backward(AttentionInput<bfloat16> in, AttentionRows<const bfloat16> dy, const float* log_sum_exp, AttentionGradients<bfloat16> out) {
  const std::int64_t pair = pair_of_warp();
  if (pair >= in.batch * in.heads) return;
  const Lane lane = lane_of(in);
  const AttentionHead<bfloat16> head(in, pair);
  const bfloat16* dy_rows = dy.rows + head.b * dy.sequence + head.h * in.width;
  Scores<halves> p, ds;
  {
    Rows<D, halves> q, k, v, g;
    q.load(lane, head.q, in.q_row);
    k.load(lane, head.k, in.k_row);
    v.load(lane, head.v, in.k_row);
    g.load(lane, dy_rows, dy.row);
    multiply(p, q, k);
    multiply(ds, g, v);
  }
  const AttentionDropout dropout(in, pair);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = lane.group + 8 * half;
    if (half >= halves) continue;
    const float lse = query < lane.tokens ? log_sum_exp[pair * lane.tokens + query] * log2_e : 0.0f;
    float delta = 0, kept[halves][2];
#pragma unroll
    for (int n = 0; n < halves; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = 8 * n + 2 * lane.t + e;
        float &weight = p[n][2 * half + e], &dp = ds[n][2 * half + e];
        weight = fast_exp2(head.masked(query, key, weight * (in.scale * log2_e)) - lse);
        const float keep = dropout.active() ? dropout.factor(query, key) : 1.0f;
        dp *= keep;
        kept[n][e] = weight * keep;
        delta += weight * dp;
      }
    delta = row_sum(delta);
    const float factor = head.sees_none(query) ? 0.0f : in.scale;
#pragma unroll
    for (int n = 0; n < halves; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float &weight = p[n][2 * half + e], &dp = ds[n][2 * half + e];
        dp = weight * (dp - delta) * factor;
        weight = kept[n][e];
      }
  }
  constexpr float ones[2] = {1, 1};
  std::uint32_t a[4];
  Columns<D, halves> b;
  const auto at = [&](const AttentionRows<bfloat16>& x) { return x.rows + head.b * x.sequence + head.h * in.width; };
  b.load(lane, head.k, in.k_row);
  to_left<halves>(a, ds);
  multiply_and_store(lane, a, b, ones, at(out.dq), out.dq.row);
  b.load(lane, head.q, in.q_row);
  transpose<halves>(a);
  multiply_and_store(lane, a, b, ones, at(out.dk), out.dk.row);
  b.load(lane, dy_rows, dy.row);
  to_left<halves>(a, p);
  transpose<halves>(a);
  multiply_and_store(lane, a, b, ones, at(out.dv), out.dv.row);
}

// Runs f.operator()<D, halves>().
template <class F>
void for_shape(const AttentionInput<bfloat16>& in, F&& f) {
  const auto with_width = [&]<int D>() {
    if (in.queries <= 8)
      f.template operator()<D, 1>();
    else
      f.template operator()<D, 2>();
  };
  if (in.width <= 64)
    with_width.template operator()<64>();
  else
    with_width.template operator()<128>();
}

}  // namespace

void attention_forward_short(const AttentionInput<bfloat16>& in, const AttentionRows<bfloat16>& y, float* log_sum_exp) {
  const unsigned blocks = blocks_for(in.batch * in.heads, warps);
  for_shape(in, [&]<int D, int halves>() { launch<short_forward<D, halves>>(blocks, threads, 0, in, y, log_sum_exp); });
}

void attention_backward_short(const AttentionInput<bfloat16>& in, const AttentionRows<const bfloat16>& dy, const float* log_sum_exp,
                              const AttentionGradients<bfloat16>& out) {
  const unsigned blocks = blocks_for(in.batch * in.heads, warps);
  for_shape(in, [&]<int D, int halves>() { launch<short_backward<D, halves>>(blocks, threads, 0, in, dy, log_sum_exp, out); });
}

}  // namespace mblm::cuda
