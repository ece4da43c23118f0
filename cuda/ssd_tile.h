// Shared by the CUDA kernels of ssd_scan: sizes, decay factors, tiles in shared memory and their products. A block works on the tokens
// of one chunk, i, j = 0 .. q - 1, and on tiles of 64 tokens x 64 channels of a head x 128 states (float32: 64 states); larger heads and
// states take several tiles, smaller ones a part of a tile.
#pragma once

#include "cuda/kernel.h"
#include "cuda/tensor_core.h"
#include "ops/ssd_scan.h"

namespace mblm::cuda::ssd {

inline constexpr int chunk_tokens = static_cast<int>(ssd_chunk), tile_width = 64;
template <class T>
inline constexpr int tile_states_of = sizeof(T) == 2 ? 128 : 64;  // float32 tiles of 128 do not fit the shared memory of sm_80

struct Sizes {
  std::int64_t batch, tokens, heads, width, states, chunks;

  explicit Sizes(const SsdScanInputs& in)
      : batch(in.x.size(0)),
        tokens(in.x.size(1)),
        heads(in.dt.size(2)),
        width(in.x.size(2) / in.dt.size(2)),
        states(in.b.size(2)),
        chunks(divide_up(in.x.size(1), ssd_chunk)) {}
  MBLM_HOST_DEVICE std::int64_t units() const { return batch * chunks; }        // pairs of a sequence and a chunk
  MBLM_HOST_DEVICE std::int64_t row() const { return heads * width; }           // elements of x of one token
  MBLM_HOST_DEVICE std::int64_t head_state() const { return width * states; }   // elements of h of one head
};

// The states (H, p, S) of each sequence before its first chunk, between chunks and after its last chunk, or their gradients. A null
// state is zero as an input and skipped as an output.
template <class T>
struct Borders {
  T *first, *between, *last;

  MBLM_HOST_DEVICE T* before(const Sizes& n, std::int64_t sequence, std::int64_t chunk) const {
    return chunk == 0 ? at(first, n, sequence) : after(n, sequence, chunk - 1);
  }
  MBLM_HOST_DEVICE T* after(const Sizes& n, std::int64_t sequence, std::int64_t chunk) const {
    return chunk == n.chunks - 1 ? at(last, n, sequence) : at(between, n, sequence * (n.chunks - 1) + chunk);
  }

 private:
  MBLM_HOST_DEVICE static T* at(T* base, const Sizes& n, std::int64_t index) {
    return base == nullptr ? nullptr : base + index * n.heads * n.head_state();
  }
};

// Heads per block: at least about `blocks` blocks in all, if there are that many pairs of a unit and a head, with about equal shares.
inline int heads_per_block(const Sizes& n, std::int64_t blocks) {
  const std::int64_t most = std::clamp<std::int64_t>(n.units() * n.heads / blocks, 1, n.heads);
  return static_cast<int>(divide_up(n.heads, divide_up(n.heads, most)));
}

// In ssd_states.cu. The states at the borders of chunks from the rows of the chunks' tokens, in float32. Forward: h after each chunk,
//   h' = a_0 ... a_{q-1} h + sum_j a_{j+1} ... a_{q-1} dt_j rows_j (outer) factors_j,  rows = x, factors = B, from borders.first on;
// backward: dh before each chunk, from borders.last down,
//   dh = a_0 ... a_{q-1} dh' + sum_i a_0 ... a_i rows_i (outer) factors_i,  rows = dy, factors = C.
void find_states(const Sizes& n, bool backward, const Tensor& rows, const Tensor& factors, const Tensor& dt, const Tensor& a_log,
                 const Borders<float>& borders);

// In ssd_scan_short.cu: at most 16 tokens without states. True for sizes and rows (x, b, c, their gradients, ...) that it can take.
bool is_short(const Sizes& n, std::initializer_list<const Tensor*> rows);
void short_forward(const Sizes& n, const SsdScanInputs& in, Tensor& y);
void short_backward(const Sizes& n, const Tensor& dy, const SsdScanInputs& in, SsdScanGradients& out);

// In ssd_states.cu. out = beta out + the sum of partials (P, H) over its rows. The order of additions depends on the shape only.
void add_head_partials(const Tensor& partials, Tensor& out, float beta);

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

__device__ __forceinline__ int round_up_16(int n) { return (n + 15) / 16 * 16; }

// The factors a_i = exp(-rate dt_i) of one head in one chunk. Tokens after q have dt = 0. Sums of log2 a_i are computed in double and
// stored as two floats: a difference of two sums has the precision of the difference, however large the sums are.
struct Decay {
  float high[chunk_tokens], low[chunk_tokens];  // log2(a_0 ... a_i)
  float dt[chunk_tokens];

  __device__ float between(int i, int j) const { return exp2f((high[i] - high[j]) + (low[i] - low[j])); }  // a_{j+1} ... a_i, j <= i
  __device__ float from_start(int i) const { return exp2f(high[i] + low[i]); }                              // a_0 ... a_i
  __device__ float to_end(int j) const { return between(chunk_tokens - 1, j); }                             // a_{j+1} ... a_{q-1}
  __device__ float whole() const { return from_start(chunk_tokens - 1); }
};

inline constexpr double log2_e = 1.4426950408889634;

// One warp fills `decay`, two tokens per lane.
__device__ __forceinline__ void find_decay(Decay& decay, const Sizes& n, const float* dt, const float* a_log, std::int64_t token, int q, std::int64_t head) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, i = 2 * lane;
  const double rate = -log2_e * static_cast<double>(expf(a_log[head]));
  const float first = i < q ? dt[(token + i) * n.heads + head] : 0.0f, second = i + 1 < q ? dt[(token + i + 1) * n.heads + head] : 0.0f;
  double sum = rate * first + rate * second;
#pragma unroll
  for (int distance = 1; distance < warp_size; distance *= 2) {
    const double before = __shfl_up_sync(all_lanes, sum, static_cast<unsigned>(distance));
    if (lane >= distance) sum += before;
  }
  const double sums[2] = {sum - rate * second, sum};
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    decay.high[i + k] = static_cast<float>(sums[k]);
    decay.low[i + k] = static_cast<float>(sums[k] - static_cast<double>(decay.high[i + k]));
    decay.dt[i + k] = k == 0 ? first : second;
  }
}

// Rows of a tile are 16 bytes longer than their elements, so that ldmatrix reads 8 rows without bank conflicts.
template <class T, int columns>
inline constexpr int row_of = columns + 16 / static_cast<int>(sizeof(T));
template <class T>
using WidthTile = T[chunk_tokens][row_of<T, tile_width>];
template <class T>
using StateTile = T[chunk_tokens][row_of<T, tile_states_of<T>>];

// 8 elements at p (aligned to 16 bytes) as float, and back.
template <class T>
__device__ __forceinline__ void read_8(float (&v)[8], const T* p) {
  if constexpr (sizeof(T) == 2) {
    read_pack<8>(v, p);
  } else {
    const float4 low = *reinterpret_cast<const float4*>(p), high = *reinterpret_cast<const float4*>(p + 4);
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w, v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
  }
}
template <class T>
__device__ __forceinline__ void write_8(T* p, const float (&v)[8]) {
  if constexpr (sizeof(T) == 2) {
    write_pack<8>(p, v);
  } else {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4*>(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
  }
}
// Two neighbouring elements; p is aligned to both.
template <class T>
__device__ __forceinline__ void write_2(T* p, float a, float b) {
  const float v[2] = {a, b};
#ifdef __CUDACC__
  if constexpr (sizeof(T) == 4) {
    std::uint64_t both;  // the compiler may store a pack of floats element by element
    memcpy(&both, v, sizeof both);
    *reinterpret_cast<std::uint64_t*>(p) = both;
    return;
  }
#endif
  write_pack<2>(p, v);
}

// A (rows x columns) part of a matrix with rows `stride` elements apart. With packs, columns, stride and the address are multiples of 8
// elements (16 bytes for bfloat16).
template <class T>
struct Part {
  T* at;
  std::int64_t stride;
  int rows, columns;
  bool packs;
};

// tile[r][k] = f(r, k, part) by `threads` threads. f changes the 8 values that start at (r, k) in place. Rows and columns after the part
// are zero up to a multiple of 16, which the products below read.
template <int threads, class T, class From, int row, class F>
__device__ __forceinline__ void load_tile(T (&tile)[chunk_tokens][row], const Part<const From>& part, F&& f) {
  constexpr int packs_per_row = row / 8 - (sizeof(T) == 2 ? 1 : 0);  // without the 16 bytes at the end
  const int rows = round_up_16(part.rows), columns = round_up_16(part.columns);
  const auto load = [&](int i, auto&& read) {
    const int r = i / packs_per_row, k = i % packs_per_row * 8;
    if (r >= rows || k >= columns) return;
    float v[8] = {};
    if (r < part.rows) read(v, part.at + r * part.stride + k, part.columns - k);
    f(r, k, v);
    write_8(&tile[r][k], v);
  };
  const int first = static_cast<int>(threadIdx.x) % threads;
  if (part.packs) {
#pragma unroll 4
    for (int i = first; i < chunk_tokens * packs_per_row; i += threads)
      load(i, [](float(&v)[8], const From* from, int left) {
        if (left > 0) read_8(v, from);
      });
  } else {
#pragma unroll 1
    for (int i = first; i < chunk_tokens * packs_per_row; i += threads)
      load(i, [](float(&v)[8], const From* from, int left) {
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (e < left) v[e] = to_float(from[e]);
      });
  }
}
template <int threads, class T, class From, int row>
__device__ __forceinline__ void load_tile(T (&tile)[chunk_tokens][row], const Part<const From>& part) {
  load_tile<threads>(tile, part, [](int, int, float(&)[8]) {});
}

// The same without a change of the values, by copies that go on while the threads compute; `part` has packs.
template <int threads, class T, int row>
__device__ __forceinline__ void copy_tile(T (&tile)[chunk_tokens][row], const Part<const T>& part) {
  constexpr int at_once = 16 / static_cast<int>(sizeof(T)), packs_per_row = row / at_once - 1;
  const int rows = round_up_16(part.rows), columns = round_up_16(part.columns);
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) % threads; i < chunk_tokens * packs_per_row; i += threads) {
    const int r = i / packs_per_row, k = i % packs_per_row * at_once;
    const bool exists = r < part.rows && k < part.columns;
    if (r < rows && k < columns) copy_async_16(&tile[r][k], exists ? part.at + r * part.stride + k : part.at, exists ? 16 : 0);
  }
}

// Rows [first, first + rows) of a tile to `part`, which starts at row `first`, by `threads` threads.
template <int threads, class T, int row>
__device__ __forceinline__ void store_tile(const T (&tile)[chunk_tokens][row], int first, const Part<T>& part) {
  const int packs_per_row = (part.columns + 7) / 8;
  for (int i = static_cast<int>(threadIdx.x) % threads; i < part.rows * packs_per_row; i += threads) {
    const int r = i / packs_per_row, k = i % packs_per_row * 8;
    T* to = part.at + r * part.stride + k;
    const T* from = &tile[first + r][k];
    if (part.packs) {
      constexpr int at_once = 16 / sizeof(T);
#pragma unroll
      for (int e = 0; e < 8; e += at_once) *reinterpret_cast<Pack<T, at_once>*>(to + e) = *reinterpret_cast<const Pack<T, at_once>*>(from + e);
    } else {
      for (int e = 0; e < 8 && k + e < part.columns; ++e) to[e] = from[e];
    }
  }
}

// sum (16 x 8 N) += A (16 x K) B (K x 8 N) for one warp, in the layout of mma.sync: lane 4 g + t holds of tile n the elements
// (g, 8 n + 2 t), (g, 8 n + 2 t + 1), (g + 8, 8 n + 2 t), (g + 8, 8 n + 2 t + 1). Only the first `tiles` tiles (an even number) are
// computed. K is a multiple of 16. A and B are in shared memory: element (m, k) at a[m row_a + k], or with a_by_k at a[k row_a + m];
// element (k, n) at b[n row_b + k], or with b_by_k at b[k row_b + n]. Bfloat16 factors are multiplied by tensor cores, float32 factors
// by plain multiply-adds; sums are float32.
template <bool a_by_k, bool b_by_k, int row_a, int row_b, int N>
__device__ __forceinline__ void multiply(float (&sum)[N][4], const bfloat16* a, const bfloat16* b, int k_end, int tiles) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, r = lane % 8, odd = lane / 8 % 2, high = lane / 16;
  a += a_by_k ? (8 * high + r) * row_a + 8 * odd : (8 * odd + r) * row_a + 8 * high;
  b += b_by_k ? (8 * odd + r) * row_b + 8 * high : (8 * high + r) * row_b + 8 * odd;
#pragma unroll 1
  for (int k = 0; k < k_end; k += 16) {
    std::uint32_t fragment[4];
    if constexpr (a_by_k)
      ldmatrix_x4_trans(fragment, a + k * row_a);
    else
      ldmatrix_x4(fragment, a + k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      if (n >= tiles) break;
      std::uint32_t both[4];  // of tiles n and n + 1
      if constexpr (b_by_k)
        ldmatrix_x4_trans(both, b + k * row_b + 8 * n);
      else
        ldmatrix_x4(both, b + 8 * n * row_b + k);
      mma_16x8x16(sum[n], fragment, {both[0], both[1]});
      mma_16x8x16(sum[n + 1], fragment, {both[2], both[3]});
    }
  }
}
template <bool a_by_k, bool b_by_k, int row_a, int row_b, int N>
__device__ __forceinline__ void multiply(float (&sum)[N][4], const float* a, const float* b, int k_end, int tiles) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, group = lane / 4, t = lane % 4;
  for (int k = 0; k < k_end; ++k) {
    const float top = a_by_k ? a[k * row_a + group] : a[group * row_a + k], bottom = a_by_k ? a[k * row_a + group + 8] : a[(group + 8) * row_a + k];
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if (n >= tiles) break;
      const int column = 8 * n + 2 * t;
      const float left = b_by_k ? b[k * row_b + column] : b[column * row_b + k], right = b_by_k ? b[k * row_b + column + 1] : b[(column + 1) * row_b + k];
      sum[n][0] += top * left;
      sum[n][1] += top * right;
      sum[n][2] += bottom * left;
      sum[n][3] += bottom * right;
    }
  }
}

#endif

}  // namespace mblm::cuda::ssd
