#include "ops/selective_scan.h"

#include "cuda/selective_tile.h"

namespace mblm::cuda::selective {
namespace {

template <class T>
struct Outputs {
  T* y;
  float *chunk_states, *final_state;  // null if they are not needed
  float* carried;                     // (B, C, S): the states between tiles, if there are more than 16
};

template <class T>
struct Tiles {
  T x[chunk][stride];
  float dt[chunk][stride], y[chunk][stride];
  float b[chunk][group], c[chunk][group];
};

// h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t and y += C_t h_t for the rows of a segment. Each lane of a channel has four states; the sums
// over its states of four tokens are added over the lanes at once, after which each lane has y of one token.
template <class T>
__device__ __forceinline__ void scan_segment(Tiles<T>& tiles, int begin, int end, int channel, int part, const float (&rate)[R], float d,
                                             bool first_group, float (&h)[R]) {
  for (int first = begin; first < end; first += lanes) {
    float sums[lanes];
#pragma unroll
    for (int j = 0; j < lanes; ++j) {
      const bool exists = first + j < end;
      const int row = exists ? first + j : begin;
      const float dt = exists ? tiles.dt[row][channel] : 0.0f, dtx = dt * to_float(tiles.x[row][channel]);  // dt = 0 leaves h as it is
      float b[R], c[R];
      read_pack<R>(b, &tiles.b[row][part * R]);
      read_pack<R>(c, &tiles.c[row][part * R]);
      float sum = 0;
#pragma unroll
      for (int r = 0; r < R; ++r) {
        h[r] = fast_exp2(dt * rate[r]) * h[r] + dtx * b[r];
        sum += h[r] * c[r];
      }
      sums[j] = sum;
    }
    const int lane = static_cast<int>(threadIdx.x) % warp_size, row = first + part;
    fold<4, 2>(sums, lane);
    fold<2, 1>(sums, lane);
    if (row < end) tiles.y[row][channel] = sums[0] + (first_group ? d * to_float(tiles.x[row][channel]) : tiles.y[row][channel]);
  }
}

// A block scans its sequences in order; see selective_tile.h. Per token and channel, bfloat16: 2 + 4 bytes read and 2 written, and per
// state one exponential and 7 FLOPs; bound by the 16 exponentials per SM and cycle for 16 states. Arithmetic is float32.
template <class T, bool many_groups>
__global__ void __launch_bounds__(threads) scan_forward(Sizes sizes, Inputs<T> in, Outputs<T> out, bool packs) {
  Tiles<T>& tiles = shared_memory<Tiles<T>>();
  const int part = static_cast<int>(threadIdx.x) % lanes, channel = static_cast<int>(threadIdx.x) / lanes;
  const unsigned sequence_block = blockIdx.x / sizes.channel_blocks, channel_block = blockIdx.x % sizes.channel_blocks;
  const std::int64_t first_channel = std::int64_t{channel_block} * channels, at = first_channel + channel;
  const std::int64_t first = std::int64_t{sequence_block} * sizes.sequences_per_block, rest = sizes.sequences - first;
  const int width = static_cast<int>(sizes.width - first_channel < channels ? sizes.width - first_channel : channels), states = sizes.states;
  const bool exists = at < sizes.width;
  const float d = exists ? in.d[at] : 0.0f;
  float rate[R], h[R] = {};
  if constexpr (!many_groups) load_rates(rate, in.a_log + at * states, states, part * R, exists);

  const auto states_of = [&](auto* array, std::int64_t row) {
    return array == nullptr || !exists ? nullptr : array + (row * sizes.width + at) * states;
  };
  const int block_rows = (rest < sizes.sequences_per_block ? static_cast<int>(rest) : sizes.sequences_per_block) * sizes.tokens;
  for (int first_row = 0; first_row < block_rows; first_row += sizes.tile_rows) {
    const int rows = block_rows - first_row < sizes.tile_rows ? block_rows - first_row : sizes.tile_rows;
    const std::int64_t row = first * sizes.tokens + first_row, element = row * sizes.width + first_channel;
    load_tile(in.x + element, sizes.width, rows, width, packs, tiles.x);
    load_tile(in.dt + element, sizes.width, rows, width, packs, tiles.dt);
    for (int g = 0; g < (many_groups ? sizes.groups : 1); ++g) {
      const int state = g * group + part * R;
      load_columns(in.b + row * states, states, g * group, rows, tiles.b);
      load_columns(in.c + row * states, states, g * group, rows, tiles.c);
      if constexpr (many_groups) load_rates(rate, in.a_log + at * states, states, state, exists);
      __syncthreads();
      for (int begin = 0; begin < rows;) {
        const Segment segment = segment_from(sizes, first_row, rows, begin);
        const std::int64_t sequence = first + segment.sequence;
        if (segment.token == 0)
          load_states(h, states_of(in.initial, sequence), states, state);
        else if (many_groups)
          load_states(h, states_of(out.carried, sequence), states, state);
        if (segment.token > 0 && out.chunk_states != nullptr && exists)
          store_states(h, states, state, states_of(out.chunk_states, sequence * (sizes.chunks - 1) + segment.token / chunk - 1));
        scan_segment(tiles, segment.begin, segment.end, channel, part, rate, d, g == 0, h);
        begin = segment.end;
        const bool finished = segment.token + segment.end - segment.begin == sizes.tokens;
        if (finished && out.final_state != nullptr && exists) store_states(h, states, state, states_of(out.final_state, sequence));
        if (!finished && many_groups && exists) store_states(h, states, state, states_of(out.carried, sequence));
      }
      __syncthreads();
    }
    store_tile(tiles.y, rows, width, packs, out.y + element, sizes.width);
  }
}

void forward(const Tensor& x, const SelectiveScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state) {
  const Sizes sizes(in);
  if (sizes.tokens == 0) {
    copy_states(in.initial, final_state);
    return;
  }
  for_element_type("selective_scan_forward", x.dtype(), [&]<class T>() {
    const bool packs = has_packs<T>(x, sizes.width) && has_packs<float>(in.dt, sizes.width) && has_packs<T>(y, sizes.width);
    Tensor carried;
    if (sizes.groups > 1 && sizes.tokens > chunk) carried = empty(Shape{sizes.sequences, sizes.width, sizes.states}, DType::Float32, x.device());
    const Outputs<T> out{data<T>(y), data_or_null<float>(chunk_states), data_or_null<float>(final_state), data_or_null<float>(carried)};
    if (sizes.groups > 1)
      launch<scan_forward<T, true>>(sizes.blocks(), threads, sizeof(Tiles<T>), sizes, Inputs<T>(in), out, packs);
    else
      launch<scan_forward<T, false>>(sizes.blocks(), threads, sizeof(Tiles<T>), sizes, Inputs<T>(in), out, packs);
  });
}

const bool added = add_kernel(selective_scan_forward, forward);

}  // namespace
}  // namespace mblm::cuda::selective
