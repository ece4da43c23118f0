// Shared by the forward and backward kernels of selective_scan.
#pragma once

#include <utility>

#include "cuda/kernel.h"
#include "cuda/map.h"
#include "cuda/tensor_core.h"
#include "ops/selective_scan.h"

namespace mblm::cuda::selective {

// A block has 64 channels and one or more whole sequences, which it scans tile by tile. A tile is a chunk of a long sequence, or as many
// whole short sequences as fit into 64 tokens. Four lanes share a channel; each holds four states in registers. So 16 states, the size
// of the published models, take 4 x 2048 channels x batch threads, which fill a GPU without a split over tokens. More states are scanned
// 16 at a time within each tile.
inline constexpr int chunk = selective_scan_chunk;
inline constexpr int channels = 64;      // per block
inline constexpr int lanes = 4, R = 4;   // lanes per channel, states per lane
inline constexpr int group = lanes * R;  // states that are scanned together
inline constexpr int threads = channels * lanes;
inline constexpr int stride = channels + 8;  // elements per row of a tile: the lanes of a channel write four rows without bank conflicts
inline constexpr int block_tiles = 4;        // tiles of short sequences per block: fewer partial sums of dA and dD
inline constexpr float log2_e = 1.44269504f, ln2 = 0.693147181f;

struct Sizes {
  explicit Sizes(const SelectiveScanInputs& in)
      : sequences(in.x.size(0)),
        width(in.x.size(2)),
        tokens(static_cast<int>(in.x.size(1))),
        chunks(static_cast<int>(divide_up(tokens, chunk))),
        states(static_cast<int>(in.a_log.size(1))),
        groups(static_cast<int>(divide_up(states, group))),
        channel_blocks(blocks_for(width, channels)) {
    require<ShapeError>(in.x.size(1) <= 0x7fffffff - chunk, "selective_scan: expected fewer than 2^31 tokens on a GPU, got ", in.x.size(1));
    const int per_tile = tokens == 0 || tokens > chunk ? 1 : chunk / tokens;
    tile_rows = tokens > chunk ? chunk : per_tile * tokens;
    sequences_per_block = tokens > chunk ? 1 : per_tile * block_tiles;
    sequence_blocks = divide_up(sequences, sequences_per_block);
  }
  std::int64_t sequences, width;
  int tokens, chunks, states, groups;
  unsigned channel_blocks;
  int sequences_per_block = 1, tile_rows = 0;
  std::int64_t sequence_blocks = 0;
  unsigned blocks() const { return blocks_for(sequence_blocks * channel_blocks, 1); }
};

template <class T>
const T* data_or_null(const Tensor& x) {
  return x.defined() ? data<T>(x) : nullptr;
}
template <class T>
T* data_or_null(Tensor& x) {
  return x.defined() ? data<T>(x) : nullptr;
}

template <class T>
struct Inputs {
  explicit Inputs(const SelectiveScanInputs& in)
      : x(data<T>(in.x)),
        b(data<T>(in.b)),
        c(data<T>(in.c)),
        dt(data<float>(in.dt)),
        a_log(data<float>(in.a_log)),
        d(data<float>(in.d)),
        initial(data_or_null<float>(in.initial)) {}
  const T *x, *b, *c;
  const float *dt, *a_log, *d, *initial;
};

// True if rows of `width` elements can be read 16 bytes at a time.
template <class T>
bool has_packs(const Tensor& x, std::int64_t width) {
  return width * static_cast<std::int64_t>(sizeof(T)) % 16 == 0 && is_aligned(raw(x), 16);
}

struct CopyState {
  __device__ float operator()(float x) const { return x; }
};
struct ZeroState {
  __device__ float operator()() const { return 0.0f; }
};
// States of sequences without tokens: to = from, or zeros if `from` is undefined. Does nothing if `to` is undefined.
inline void copy_states(const Tensor& from, Tensor& to) {
  if (!to.defined()) return;
  if (from.defined())
    map(CopyState{}, to.numel(), data<float>(to), data<float>(from));
  else
    map(ZeroState{}, to.numel(), data<float>(to));
}

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

// Part of a sequence in a tile: rows [begin, end) of the tile are tokens [token, token + end - begin) of sequence `sequence` of the block.
struct Segment {
  int sequence, begin, end, token;
};
// The segment that starts, or ends, at a row of the tile. `first_row` is the first row of the tile among the rows of the block, whose
// number has 32 bits.
__device__ __forceinline__ Segment segment_from(const Sizes& sizes, int first_row, int rows, int begin) {
  const int row = first_row + begin, sequence = row / sizes.tokens, token = row - sequence * sizes.tokens, rest = sizes.tokens - token;
  return {sequence, begin, rest < rows - begin ? begin + rest : rows, token};
}
__device__ __forceinline__ Segment segment_to(const Sizes& sizes, int first_row, int end) {
  const int row = first_row + end - 1, sequence = row / sizes.tokens, after = row - sequence * sizes.tokens + 1;
  const int begin = after < end ? end - after : 0;
  return {sequence, begin, end, after - (end - begin)};
}

// Loads `rows` rows of `width` channels, zeros for the other channels of the block. `row_width` is the distance of rows in memory.
template <class T>
__device__ __forceinline__ void load_tile(const T* from, std::int64_t row_width, int rows, int width, bool packs, T (&to)[chunk][stride]) {
  constexpr int N = 16 / sizeof(T);
  if (packs) {
    for (int i = threadIdx.x; i < rows * (channels / N); i += threads) {
      const int row = i / (channels / N), column = i % (channels / N) * N;
      Pack<T, N> pack{};
      if (column < width) pack = *reinterpret_cast<const Pack<T, N>*>(from + row * row_width + column);
      *reinterpret_cast<Pack<T, N>*>(&to[row][column]) = pack;
    }
  } else {
    for (int i = threadIdx.x; i < rows * channels; i += threads) {
      const int row = i / channels, column = i % channels;
      to[row][column] = column < width ? from[row * row_width + column] : T{};
    }
  }
}

template <class T, class U>
__device__ __forceinline__ void store_tile(const U (&from)[chunk][stride], int rows, int width, bool packs, T* to, std::int64_t row_width) {
  constexpr int N = 16 / sizeof(T);
  if (packs) {
    for (int i = threadIdx.x; i < rows * (channels / N); i += threads) {
      const int row = i / (channels / N), column = i % (channels / N) * N;
      float values[N];
#pragma unroll
      for (int k = 0; k < N; ++k) values[k] = to_float(from[row][column + k]);
      if (column < width) write_pack<N>(to + row * row_width + column, values);
    }
  } else {
    for (int i = threadIdx.x; i < rows * channels; i += threads) {
      const int row = i / channels, column = i % channels;
      if (column < width) to[row * row_width + column] = from_float<T>(to_float(from[row][column]));
    }
  }
}

// Loads the entries of 16 states, starting with `first`, of b or c for `rows` tokens; zeros beyond the last state.
template <class T>
__device__ __forceinline__ void load_columns(const T* from, int states, int first, int rows, float (&to)[chunk][group]) {
  for (int i = threadIdx.x; i < rows * group; i += threads) {
    const int row = i / group, state = first + i % group;
    to[row][i % group] = state < states ? to_float(from[std::int64_t{row} * states + state]) : 0.0f;
  }
}

// The thread's states, starting with `first`, of one channel in a (C, S) array; zeros for a null array and beyond the last state.
__device__ __forceinline__ void load_states(float (&h)[R], const float* channel, int states, int first) {
#pragma unroll
  for (int r = 0; r < R; ++r) h[r] = channel != nullptr && first + r < states ? channel[first + r] : 0.0f;
}
__device__ __forceinline__ void store_states(const float (&h)[R], int states, int first, float* channel) {
#pragma unroll
  for (int r = 0; r < R; ++r)
    if (first + r < states) channel[first + r] = h[r];
}

// A / ln 2 = -exp(A_log) / ln 2, so that exp(dt A) = 2^(dt A / ln 2); 0 beyond the last state.
__device__ __forceinline__ void load_rates(float (&rate)[R], const float* a_log_of_channel, int states, int first, bool exists) {
#pragma unroll
  for (int r = 0; r < R; ++r) rate[r] = exists && first + r < states ? -expf(a_log_of_channel[first + r]) * log2_e : 0.0f;
}

// The first N values of each lane are added over pairs of lanes that differ in `bit`. Afterwards v[0 .. N / 2) of the lane without the
// bit holds the sums of the lower half of the values, and of the lane with it those of the upper half.
template <int N, int bit, int size>
__device__ __forceinline__ void fold(float (&v)[size], int lane) {
  const bool upper = (lane & bit) != 0;
#pragma unroll
  for (int k = 0; k < N / 2; ++k) {
    const float keep = upper ? v[k + N / 2] : v[k], send = upper ? v[k] : v[k + N / 2];
    v[k] = keep + __shfl_xor_sync(all_lanes, send, bit);
  }
}

#endif

}  // namespace mblm::cuda::selective
