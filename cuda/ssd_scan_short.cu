// ssd_scan for at most 16 tokens without states, in bfloat16: the quadratic form y = ((C B^T) o L) x of a whole sequence in one tile of
// the tensor cores. Everything is in registers: the order of states and channels within a product is free, so it is chosen such that
// each lane reads and writes 16 neighbouring bytes of rows in global memory. Sums of log2 a_i are float32 sums of at most 16 terms.
#include "cuda/ssd_tile.h"

namespace mblm::cuda::ssd {
namespace {

constexpr int short_tokens = 16, threads = 256, warps = threads / warp_size, heads_per_warp = 4, heads_at_once = 2;

using Words = Pack<std::uint32_t, 4>;  // 8 bfloat16

__device__ __forceinline__ Words read_words(const bfloat16* p, bool exists) {
  if (exists) return *reinterpret_cast<const Words*>(p);
  return {{0, 0, 0, 0}};
}

struct Lane {
  int lane = static_cast<int>(threadIdx.x) % warp_size, group = lane / 4, t = lane % 4;
};

// sum (16 x 16) += A B^T, and with `transposed` also sum_t += B A^T, for rows of A and B that start at a and b, `stride` elements apart.
// Lane 4 g + t reads elements 8 t ... 8 t + 7 of rows g and g + 8 of both, per 32 elements. The loads of 64 elements are issued together.
template <bool transposed>
__device__ __forceinline__ void add_dots(float (&sum)[2][4], float (&sum_t)[2][4], const bfloat16* a, const bfloat16* b, std::int64_t stride, int q, int elements) {
  const Lane me;
  a += me.group * stride + 8 * me.t;
  b += me.group * stride + 8 * me.t;
  const bool has_top = me.group < q, has_bottom = me.group + 8 < q;
#pragma unroll 1
  for (int first = 0; first < elements; first += 64) {
    Words a0[2], a1[2], b0[2], b1[2];
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const int k = first + 32 * part;
      const bool exists = k + 8 * me.t < elements;
      a0[part] = read_words(a + k, exists && has_top), b0[part] = read_words(b + k, exists && has_top);
      a1[part] = read_words(a + 8 * stride + k, exists && has_bottom), b1[part] = read_words(b + 8 * stride + k, exists && has_bottom);
    }
#pragma unroll
    for (int part = 0; part < 2; ++part) {
#pragma unroll
      for (int half = 0; half < 4; half += 2) {
        const std::uint32_t rows_a[4] = {a0[part].v[half], a1[part].v[half], a0[part].v[half + 1], a1[part].v[half + 1]},
                            rows_b[4] = {b0[part].v[half], b1[part].v[half], b0[part].v[half + 1], b1[part].v[half + 1]};
        mma_16x8x16(sum[0], rows_a, {rows_b[0], rows_b[2]});
        if (q > 8) mma_16x8x16(sum[1], rows_a, {rows_b[1], rows_b[3]});
        if constexpr (transposed) {
          mma_16x8x16(sum_t[0], rows_b, {rows_a[0], rows_a[2]});
          if (q > 8) mma_16x8x16(sum_t[1], rows_b, {rows_a[1], rows_a[3]});
        }
      }
    }
  }
}

// 64 columns of 16 rows as the second factor of a product. Lane 4 g + t has the 8 columns of block g / 2 + 4 (g mod 2) of rows 2 t, 2 t + 1,
// 2 t + 8 and 2 t + 9.
struct Rows {
  Words row[4];

  __device__ Rows(const bfloat16* rows, std::int64_t stride, int q, int columns) {
    const Lane me;
    const int column = 8 * (me.group / 2 + me.group % 2 * 4);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int token = 2 * me.t + k % 2 + 8 * (k / 2);
      row[k] = read_words(rows + token * stride + column, token < q && column < columns);
    }
  }
};

// out (16 x at most 64 columns) = M rows, for a 16 x 16 matrix M in the layout of sums, which is rounded to bfloat16. Product c of eight
// takes column c of each block, so lane 4 g + t ends up with the blocks t and t + 4 of rows g and g + 8.
__device__ __forceinline__ void multiply_rows(const float (&m)[2][4], const Rows& rows, bfloat16* out, std::int64_t stride, int q, int columns) {
  const Lane me;
  const std::uint32_t a[4] = {pack_bf16(m[0][0], m[0][1]), pack_bf16(m[0][2], m[0][3]), pack_bf16(m[1][0], m[1][1]), pack_bf16(m[1][2], m[1][3])};
  float sum[8][4];
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    const auto pair = [&](const Words& low, const Words& high) {
      return c % 2 == 0 ? (low.v[c / 2] & 0xffffu) | high.v[c / 2] << 16 : low.v[c / 2] >> 16 | (high.v[c / 2] & 0xffff0000u);
    };
#pragma unroll
    for (int r = 0; r < 4; ++r) sum[c][r] = 0;
    mma_16x8x16(sum[c], a, {pair(rows.row[0], rows.row[1]), pair(rows.row[2], rows.row[3])});
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int token = me.group + 8 * (r / 2), column = 8 * (me.t + r % 2 * 4);
    if (token >= q || column >= columns) continue;
    const float v[8] = {sum[0][r], sum[1][r], sum[2][r], sum[3][r], sum[4][r], sum[5][r], sum[6][r], sum[7][r]};
    write_pack<8>(out + token * stride + column, v);
  }
}
// The same for any number of columns; `first` has the first 64.
__device__ __forceinline__ void multiply_rows(const float (&m)[2][4], const Rows& first, const bfloat16* rows, bfloat16* out, std::int64_t stride, int q, int columns) {
  multiply_rows(m, first, out, stride, q, columns);
#pragma unroll 1
  for (int k = 64; k < columns; k += 64) multiply_rows(m, Rows(rows + k, stride, q, columns - k), out + k, stride, q, columns - k);
}

// Two neighbouring heads: lane 16 e + i has token i of head `first + e`. Tokens and heads that do not exist have dt = 0.
struct ShortDecay {
  float dt, sum, rate;  // sum: log2(a_0 ... a_i)

  __device__ ShortDecay(const Sizes& n, const float* all_dt, const float* a_log, std::int64_t sequence, std::int64_t first) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size, i = lane % short_tokens;
    const std::int64_t head = first + lane / short_tokens;
    const bool exists = i < n.tokens && head < n.heads;
    dt = exists ? all_dt[(sequence * n.tokens + i) * n.heads + head] : 0.0f;
    rate = head < n.heads ? expf(a_log[head]) : 0.0f;
    sum = -static_cast<float>(log2_e) * rate * dt;
#pragma unroll
    for (int distance = 1; distance < short_tokens; distance *= 2) {
      const float before = __shfl_up_sync(all_lanes, sum, static_cast<unsigned>(distance), short_tokens);
      if (i >= distance) sum += before;
    }
  }
};

// The factors of head e of the two at the rows and columns of this lane in the layout of sums.
struct LaneDecay {
  float row_sum[2], column_sum[4], row_dt[2], column_dt[4];

  __device__ LaneDecay(const ShortDecay& decay, int e) {
    const Lane me;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      row_sum[k] = __shfl_sync(all_lanes, decay.sum, short_tokens * e + me.group + 8 * k);
      row_dt[k] = __shfl_sync(all_lanes, decay.dt, short_tokens * e + me.group + 8 * k);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      column_sum[k] = __shfl_sync(all_lanes, decay.sum, short_tokens * e + 2 * me.t + k % 2 + 8 * (k / 2));
      column_dt[k] = __shfl_sync(all_lanes, decay.dt, short_tokens * e + 2 * me.t + k % 2 + 8 * (k / 2));
    }
  }
};

// Token indices of element r of tile m of sums.
__device__ __forceinline__ int row_token(int r) { return Lane().group + 8 * (r / 2); }
__device__ __forceinline__ int column_token(int m, int r) { return 8 * m + 2 * Lane().t + r % 2; }

// A warp computes four heads of one sequence; C B^T is computed once for them. M, which includes D on its diagonal, is rounded to
// bfloat16. Memory bound: x, y and dt once; the warps of a block share b and c through the cache.
__global__ void __launch_bounds__(threads, 2)
    short_outputs(Sizes n, const bfloat16* x, const float* dt, const float* a_log, const bfloat16* b, const bfloat16* c, const float* d, bfloat16* y) {
  const std::int64_t groups = (n.heads + heads_per_warp - 1) / heads_per_warp, index = std::int64_t{blockIdx.x} * warps + threadIdx.x / warp_size;
  const std::int64_t sequence = index / groups, first_head = index % groups * heads_per_warp;
  if (sequence >= n.batch) return;
  const int q = static_cast<int>(n.tokens), width = static_cast<int>(n.width);
  float gram[2][4] = {};
  add_dots<false>(gram, gram, c + sequence * q * n.states, b + sequence * q * n.states, n.states, q, static_cast<int>(n.states));
  for (std::int64_t first = first_head; first < std::min(n.heads, first_head + heads_per_warp); first += heads_at_once) {
    const std::int64_t place = sequence * q * n.row() + first * n.width;
    const bool both = first + 1 < n.heads;
    const Rows rows[heads_at_once] = {Rows(x + place, n.row(), q, width), Rows(x + place + n.width, n.row(), both ? q : 0, width)};
    const float weights[heads_at_once] = {d[first], both ? d[first + 1] : 0.0f};
    const ShortDecay two(n, dt, a_log, sequence, first);
#pragma unroll
    for (int e = 0; e < heads_at_once; ++e) {
      if (e > 0 && !both) break;
      const LaneDecay decay(two, e);
      float m[2][4];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int i = row_token(r), j = column_token(k, r);
          m[k][r] = j <= i ? gram[k][r] * exp2f(decay.row_sum[r / 2] - decay.column_sum[2 * k + r % 2]) * decay.column_dt[2 * k + r % 2] : 0.0f;
          if (i == j) m[k][r] += weights[e];
        }
      }
      const std::int64_t own = place + e * n.width;
      multiply_rows(m, rows[e], x + own, y + own, n.row(), q, width);
    }
  }
}

struct ShortGradients {
  bfloat16* dx;
  float* ddt;
  bfloat16 *db, *dc;
  float *da_log, *dd;  // (B, H)
};

struct ShortSums {
  float dgram[warps][short_tokens][short_tokens], all[short_tokens][short_tokens + 1];
  // Per warp, of two heads: over j < i of dM_ij M_ij, over i > j of dM_ij M_ij / dt_j, the same for i = j, dM_ii.
  float rows[warps][warp_size], columns[warps][warp_size], diagonal[warps][warp_size], dd[warps][warp_size];
};

// A block computes one sequence; its warps take two heads at a time, in turn. The formulas are those of ssd_scan_backward.cu without
// states. The gradient of C B^T is summed over the heads of a warp in registers, then over the warps in order. Memory bound: x, dy, dx
// and dt once; dy a second time from the cache.
__global__ void __launch_bounds__(threads, 2)
    short_gradients(Sizes n, const bfloat16* x, const float* dt, const float* a_log, const bfloat16* b, const bfloat16* c, const float* d, const bfloat16* dy,
                    ShortGradients out) {
  ShortSums& shared = shared_memory<ShortSums>();
  const Lane me;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, q = static_cast<int>(n.tokens), states = static_cast<int>(n.states), width = static_cast<int>(n.width);
  const std::int64_t sequence = blockIdx.x;
  const bfloat16 *sequence_b = b + sequence * q * n.states, *sequence_c = c + sequence * q * n.states;
  float gram[2][4] = {}, gram_t[2][4] = {}, dgram[2][4] = {};
  add_dots<true>(gram, gram_t, sequence_c, sequence_b, n.states, q, states);
  for (std::int64_t first = warp * heads_at_once; first < n.heads; first += warps * heads_at_once) {
    const ShortDecay two(n, dt, a_log, sequence, first);
#pragma unroll 1
    for (int e = 0; e < heads_at_once; ++e) {
      const std::int64_t head = first + e;
      if (head >= n.heads) break;
      const LaneDecay decay(two, e);
      const std::int64_t place = sequence * q * n.row() + head * n.width;
      const float weight = d[head];
      float dm[2][4] = {}, m[2][4], rows[2] = {}, columns[4] = {};
      add_dots<false>(dm, dm, dy + place, x + place, n.row(), q, width);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int i = row_token(r), j = column_token(k, r), at = 2 * k + r % 2;
          if (j <= i) {
            const float decayed = dm[k][r] * exp2f(decay.row_sum[r / 2] - decay.column_sum[at]), step = decayed * gram[k][r];
            dgram[k][r] += decayed * decay.column_dt[at];
            if (j < i) {
              rows[r / 2] += step * decay.column_dt[at];
              columns[at] += step;
            } else {
              shared.diagonal[warp][short_tokens * e + i] = step;
              shared.dd[warp][short_tokens * e + i] = dm[k][r];
            }
          }
          // Here the row is j and the column is i: M transposed.
          m[k][r] = i <= j ? gram_t[k][r] * exp2f(decay.column_sum[at] - decay.row_sum[r / 2]) * decay.row_dt[r / 2] : 0.0f;
          if (i == j) m[k][r] += weight;
        }
      }
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        rows[k] += __shfl_xor_sync(all_lanes, rows[k], 1);
        rows[k] += __shfl_xor_sync(all_lanes, rows[k], 2);
        if (me.t == 0) shared.rows[warp][short_tokens * e + me.group + 8 * k] = rows[k];
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int bits = 4; bits < warp_size; bits *= 2) columns[k] += __shfl_xor_sync(all_lanes, columns[k], bits);
        if (me.group == 0) shared.columns[warp][short_tokens * e + 2 * me.t + k % 2 + 8 * (k / 2)] = columns[k];
      }
      multiply_rows(m, Rows(dy + place, n.row(), q, width), dy + place, out.dx + place, n.row(), q, width);
    }
    __syncwarp();
    // Token i of head e in lane 16 e + i: log a_k gets the pairs (i, j) with i >= k > j, a sum from k on of rows minus columns.
    const int i = me.lane % short_tokens;
    const std::int64_t head = first + me.lane / short_tokens;
    const bool exists = head < n.heads;
    const float columns = exists ? shared.columns[warp][me.lane] : 0.0f;
    float dlog_a = exists ? shared.rows[warp][me.lane] - columns * two.dt : 0.0f, dd = exists ? shared.dd[warp][me.lane] : 0.0f;
#pragma unroll
    for (int distance = 1; distance < short_tokens; distance *= 2) {
      const float next = __shfl_down_sync(all_lanes, dlog_a, static_cast<unsigned>(distance), short_tokens);
      if (i + distance < short_tokens) dlog_a += next;
    }
    float da_log = -two.rate * dlog_a * two.dt;
#pragma unroll
    for (int bits = 1; bits < short_tokens; bits *= 2) {
      da_log += __shfl_xor_sync(all_lanes, da_log, bits);
      dd += __shfl_xor_sync(all_lanes, dd, bits);
    }
    if (exists && i < q) out.ddt[(sequence * q + i) * n.heads + head] = columns + shared.diagonal[warp][me.lane] - two.rate * dlog_a;
    if (exists && i == 0) {
      out.da_log[sequence * n.heads + head] = da_log;
      out.dd[sequence * n.heads + head] = dd;
    }
    __syncwarp();
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
#pragma unroll
    for (int r = 0; r < 4; ++r) shared.dgram[warp][row_token(r)][column_token(k, r)] = dgram[k][r];
  }
  __syncthreads();
  {
    static_assert(threads == short_tokens * short_tokens);
    const int i = static_cast<int>(threadIdx.x) / short_tokens, j = static_cast<int>(threadIdx.x) % short_tokens;
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += shared.dgram[w][i][j];
    shared.all[i][j] = sum;
  }
  __syncthreads();
  // dC = dgram B and dB = dgram^T C, 64 states of one of them per warp.
  for (int task = warp; task < (states + 63) / 64 * 2; task += warps) {
    const int column = task / 2 * 64;
    const bool of_b = task % 2 == 0;
    float m[2][4];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int r = 0; r < 4; ++r) m[k][r] = of_b ? shared.all[column_token(k, r)][row_token(r)] : shared.all[row_token(r)][column_token(k, r)];
    }
    bfloat16* to = of_b ? out.db : out.dc;
    const int columns = std::min(64, states - column);
    multiply_rows(m, Rows((of_b ? sequence_c : sequence_b) + column, n.states, q, columns), to + sequence * q * n.states + column, n.states, q, columns);
  }
}

}  // namespace

bool is_short(const Sizes& n, std::initializer_list<const Tensor*> rows) {
  constexpr std::int64_t largest = 1 << 20;  // elements are counted in int
  bool fits = n.tokens <= short_tokens && n.width % 8 == 0 && n.states % 8 == 0 && n.width <= largest && n.states <= largest;
  for (const Tensor* x : rows) fits = fits && x->dtype() == DType::BFloat16 && is_aligned(raw(*x), 16);
  return fits;
}

void short_forward(const Sizes& n, const SsdScanInputs& in, Tensor& y) {
  launch<short_outputs>(blocks_for(n.batch * divide_up(n.heads, heads_per_warp), warps), threads, 0, n, data<bfloat16>(in.x), data<float>(in.dt),
                        data<float>(in.a_log), data<bfloat16>(in.b), data<bfloat16>(in.c), data<float>(in.d), data<bfloat16>(y));
}

void short_backward(const Sizes& n, const Tensor& dy, const SsdScanInputs& in, SsdScanGradients& out) {
  Tensor da_log = empty(Shape{n.batch, n.heads}, DType::Float32, dy.device()), dd = empty(Shape{n.batch, n.heads}, DType::Float32, dy.device());
  const ShortGradients gradients{data<bfloat16>(out.dx), data<float>(out.ddt), data<bfloat16>(out.db), data<bfloat16>(out.dc), data<float>(da_log), data<float>(dd)};
  launch<short_gradients>(blocks_for(n.batch, 1), threads, sizeof(ShortSums), n, data<bfloat16>(in.x), data<float>(in.dt), data<float>(in.a_log),
                          data<bfloat16>(in.b), data<bfloat16>(in.c), data<float>(in.d), data<bfloat16>(dy), gradients);
  add_head_partials(da_log, out.da_log, out.beta_a_log);
  add_head_partials(dd, out.dd, out.beta_d);
}

}  // namespace mblm::cuda::ssd
