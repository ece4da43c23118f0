#include "cuda/partials.h"
#include "cuda/selective_tile.h"
#include "ops/selective_scan.h"

namespace mblm::cuda::selective {
namespace {

constexpr int steps = 8;  // tokens whose states a thread holds in registers
constexpr int checkpoints = chunk / steps;
constexpr int warps = threads / warp_size;
constexpr int token_columns = 2 * group;  // of db and dc for one token

template <class T>
struct Arrays {
  const T* dy;
  const float *dfinal, *chunk_states;
  T* dx;
  float *ddt, *dinitial;  // dinitial may be null
  float* carried;         // (B, C, S): the gradients of the states between tiles, if there are more than 16 states
  float *db, *dc;         // (channel blocks, B T S): partial sums
  float *da_log, *dd;     // (sequence blocks, C S) and (sequence blocks, C): partial sums
};

template <class T, bool many_groups>
struct Tiles {
  T x[chunk][stride], dy[chunk][stride];
  float dt[chunk][stride];
  float b[chunk][group], c[chunk][group];
  float h[checkpoints][threads][R];  // the thread's states before every eighth token of a segment
  float columns[2][warps][steps][token_columns];  // sums over the channels of a warp, double-buffered
  float drive[many_groups ? chunk : 1][stride], ddt[many_groups ? chunk : 1][stride];  // sums over the earlier groups of states
};

// What a thread computes with: its channel, its four states of the current group, and its sums.
struct Thread {
  int lane, warp, part, channel;
  float rate[R], d;
  float dh[R];  // gradient of h after the current token, from later tokens
  float da[R];  // gradient of A
  float dd;
};

// One token forward: h = decay h + dt x b. A token that does not exist has dt = 0, which leaves h as it is.
template <class Tiles>
__device__ __forceinline__ void advance(const Tiles& tiles, const Thread& thread, int row, bool exists, float (&decay)[R], float (&h)[R]) {
  const float dt = exists ? tiles.dt[row][thread.channel] : 0.0f, dtx = dt * to_float(tiles.x[row][thread.channel]);
  float b[R];
  read_pack<R>(b, &tiles.b[row][thread.part * R]);
#pragma unroll
  for (int r = 0; r < R; ++r) {
    decay[r] = fast_exp2(dt * thread.rate[r]);
    h[r] = decay[r] * h[r] + dtx * b[r];
  }
}

// The gradients of x and dt of one token and channel, from the sums over the states of this group; they replace dy and dt.
template <class T, bool many_groups>
__device__ __forceinline__ void finish_token(Tiles<T, many_groups>& tiles, Thread& thread, int row, float x, float dy, float dt, float drive,
                                             float ddt, bool first_group, bool last_group) {
  if constexpr (many_groups) {
    if (!first_group) {
      drive += tiles.drive[row][thread.channel];
      ddt += tiles.ddt[row][thread.channel];
    }
    if (!last_group) {
      tiles.drive[row][thread.channel] = drive;
      tiles.ddt[row][thread.channel] = ddt;
      return;
    }
  }
  thread.dd += dy * x;
  tiles.dy[row][thread.channel] = from_float<T>(thread.d * dy + dt * drive);
  tiles.dt[row][thread.channel] = ddt * ln2 + x * drive;
}

// Backward over rows [first, min(first + 8, end)) of the tile, from h before them. Writes the sums of db and dc over the channels of the
// warp to `sums`. drive = sum_s dh B and ddt = sum_s dh exp(dt A) h_{t-1} A / ln 2 of four tokens are added over the four lanes of a
// channel at once, after which each lane has those of one token.
template <class T, bool many_groups>
__device__ __forceinline__ void scan_back(Tiles<T, many_groups>& tiles, Thread& thread, int first, int end, const float (&before)[R],
                                          bool first_group, bool last_group, float (&sums)[steps][token_columns]) {
  float h[steps + 1][R], decay[steps][R];
#pragma unroll
  for (int r = 0; r < R; ++r) h[0][r] = before[r];
#pragma unroll
  for (int j = 0; j < steps; ++j) {
    const bool exists = first + j < end;
#pragma unroll
    for (int r = 0; r < R; ++r) h[j + 1][r] = h[j][r];
    advance(tiles, thread, exists ? first + j : first, exists, decay[j], h[j + 1]);
  }
#pragma unroll
  for (int four = steps - lanes; four >= 0; four -= lanes) {
    float drive[lanes] = {}, ddt[lanes] = {};
#pragma unroll
    for (int k = lanes - 1; k >= 0; --k) {
      const int j = four + k;
      const bool exists = first + j < end;
      const int row = exists ? first + j : first;
      const float dt = exists ? tiles.dt[row][thread.channel] : 0.0f, dtx = dt * to_float(tiles.x[row][thread.channel]);
      const float dy = exists ? to_float(tiles.dy[row][thread.channel]) : 0.0f;
      float b[R], c[R], column[2 * R];
      read_pack<R>(b, &tiles.b[row][thread.part * R]);
      read_pack<R>(c, &tiles.c[row][thread.part * R]);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float dh = thread.dh[r] + dy * c[r], earlier = decay[j][r] * dh, through = earlier * h[j][r];
        thread.dh[r] = earlier;
        drive[k] += dh * b[r];
        ddt[k] += through * thread.rate[r];
        thread.da[r] += through * dt;
        column[r] = dh * dtx;
        column[R + r] = dy * h[j + 1][r];
      }
      fold<8, 16>(column, thread.lane);
      fold<4, 8>(column, thread.lane);
      fold<2, 4>(column, thread.lane);
      sums[j][thread.lane] = column[0];
    }
    fold<4, 2>(drive, thread.lane);
    fold<2, 1>(drive, thread.lane);
    fold<4, 2>(ddt, thread.lane);
    fold<2, 1>(ddt, thread.lane);
    const int mine = first + four + thread.part, row = mine < end ? mine : first;
    const float x = to_float(tiles.x[row][thread.channel]), dy = to_float(tiles.dy[row][thread.channel]), dt = tiles.dt[row][thread.channel];
    __syncwarp();  // the lanes of a channel have read dt and dy of these tokens, which the results replace
    if (mine < end) finish_token(tiles, thread, row, x, dy, dt, drive[0], ddt[0], first_group, last_group);
  }
}

// db and dc of up to 8 tokens from `row`: adds the sums of the warps in order. Lane l of a warp has entry l / 4 of db or dc of part l % 4.
__device__ __forceinline__ void store_columns(const float (&sums)[warps][steps][token_columns], int count, std::int64_t row, int states,
                                              int first_state, float* db, float* dc) {
  static_assert(threads == steps * token_columns);
  const int step = static_cast<int>(threadIdx.x) / token_columns, column = static_cast<int>(threadIdx.x) % token_columns;
  const int in_group = column % group, lane = (column / group * R + in_group % R) * lanes + in_group / R, state = first_state + in_group;
  if (step >= count || state >= states) return;
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < warps; ++warp) sum += sums[warp][step][lane];
  (column < group ? db : dc)[(row + step) * states + state] = sum;
}

// A block goes through its sequences backward; see selective_tile.h. For each segment of a tile it computes h before every eighth token,
// then goes back over groups of eight tokens, whose h it recomputes in registers. Per token and channel, bfloat16: 2 + 2 + 4 bytes read
// and 2 + 4 written, and per state two exponentials and 22 FLOPs. Arithmetic and sums are float32.
template <class T, bool many_groups>
__global__ void __launch_bounds__(threads, 2) scan_backward(Sizes sizes, Inputs<T> in, Arrays<T> out, bool packs) {
  Tiles<T, many_groups>& tiles = shared_memory<Tiles<T, many_groups>>();
  Thread thread{};
  thread.lane = static_cast<int>(threadIdx.x) % warp_size;
  thread.warp = static_cast<int>(threadIdx.x) / warp_size;
  thread.part = static_cast<int>(threadIdx.x) % lanes;
  thread.channel = static_cast<int>(threadIdx.x) / lanes;
  const unsigned sequence_block = blockIdx.x / sizes.channel_blocks, channel_block = blockIdx.x % sizes.channel_blocks;
  const std::int64_t first_channel = std::int64_t{channel_block} * channels, at = first_channel + thread.channel;
  const std::int64_t first = std::int64_t{sequence_block} * sizes.sequences_per_block, rest = sizes.sequences - first;
  const int width = static_cast<int>(sizes.width - first_channel < channels ? sizes.width - first_channel : channels), states = sizes.states;
  const bool exists = at < sizes.width;
  thread.d = exists ? in.d[at] : 0.0f;
  if constexpr (!many_groups) load_rates(thread.rate, in.a_log + at * states, states, thread.part * R, exists);

  const auto states_of = [&](auto* array, std::int64_t row) {
    return array == nullptr || !exists ? nullptr : array + (row * sizes.width + at) * states;
  };
  float* const da_log = out.da_log + (std::int64_t{sequence_block} * sizes.width + at) * states;
  const std::int64_t columns_offset = std::int64_t{channel_block} * sizes.sequences * sizes.tokens * states;
  const int block_rows = (rest < sizes.sequences_per_block ? static_cast<int>(rest) : sizes.sequences_per_block) * sizes.tokens;
  const int last_row = (block_rows - 1) / sizes.tile_rows * sizes.tile_rows;  // first row of the last tile
  int buffer = 0;
  for (int first_row = last_row; first_row >= 0; first_row -= sizes.tile_rows) {
    const std::int64_t row = first * sizes.tokens + first_row, element = row * sizes.width + first_channel;
    const int rows = block_rows - first_row < sizes.tile_rows ? block_rows - first_row : sizes.tile_rows;
    load_tile(in.x + element, sizes.width, rows, width, packs, tiles.x);
    load_tile(in.dt + element, sizes.width, rows, width, packs, tiles.dt);
    load_tile(out.dy + element, sizes.width, rows, width, packs, tiles.dy);
    for (int g = 0; g < (many_groups ? sizes.groups : 1); ++g) {
      const int state = g * group + thread.part * R;
      load_columns(in.b + row * states, states, g * group, rows, tiles.b);
      load_columns(in.c + row * states, states, g * group, rows, tiles.c);
      if constexpr (many_groups) load_rates(thread.rate, in.a_log + at * states, states, state, exists);
      __syncthreads();
      for (int segment_end = rows; segment_end > 0;) {
        const Segment segment = segment_to(sizes, first_row, segment_end);
        const std::int64_t sequence = first + segment.sequence;
        segment_end = segment.begin;
        if (segment.token + segment.end - segment.begin == sizes.tokens)
          load_states(thread.dh, states_of(out.dfinal, sequence), states, state);
        else if (many_groups)
          load_states(thread.dh, states_of(out.carried, sequence), states, state);
        float h[R];
        if (segment.token == 0)
          load_states(h, states_of(in.initial, sequence), states, state);
        else
          load_states(h, states_of(out.chunk_states, sequence * (sizes.chunks - 1) + segment.token / chunk - 1), states, state);

        const int last = (segment.end - segment.begin - 1) / steps;
        for (int i = 0; i < last; ++i) {
          write_pack<R>(tiles.h[i][threadIdx.x], h);
#pragma unroll
          for (int j = 0; j < steps; ++j) {
            float decay[R];
            advance(tiles, thread, segment.begin + i * steps + j, true, decay, h);
          }
        }
        for (int i = last; i >= 0; --i) {
          if (i < last) read_pack<R>(h, tiles.h[i][threadIdx.x]);
          const int begin = segment.begin + i * steps, count_of_step = segment.end - begin < steps ? segment.end - begin : steps;
          scan_back(tiles, thread, begin, segment.end, h, g == 0, g == sizes.groups - 1, tiles.columns[buffer][thread.warp]);
          __syncthreads();
          store_columns(tiles.columns[buffer], count_of_step, row + begin, states, g * group, out.db + columns_offset, out.dc + columns_offset);
          buffer ^= 1;
        }
        if (segment.token == 0) {
          if (out.dinitial != nullptr && exists) store_states(thread.dh, states, state, states_of(out.dinitial, sequence));
        } else if (many_groups && exists) {
          store_states(thread.dh, states, state, states_of(out.carried, sequence));
        }
      }
      if constexpr (many_groups) {
        float sums[R];
        load_states(sums, first_row == last_row || !exists ? nullptr : da_log, states, state);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          sums[r] += thread.da[r] * thread.rate[r] * ln2;
          thread.da[r] = 0;
        }
        if (exists) store_states(sums, states, state, da_log);
      }
      __syncthreads();
    }
    store_tile(tiles.dy, rows, width, packs, out.dx + element, sizes.width);
    store_tile(tiles.dt, rows, width, packs, out.ddt + element, sizes.width);
    __syncthreads();
  }
  if constexpr (!many_groups) {
#pragma unroll
    for (int r = 0; r < R; ++r) thread.da[r] *= thread.rate[r] * ln2;  // dA_log = dA A
    if (exists) store_states(thread.da, states, thread.part * R, da_log);
  }
  float dd = thread.dd;
#pragma unroll
  for (int bit = 1; bit < lanes; bit *= 2) dd += __shfl_xor_sync(all_lanes, dd, bit);
  if (exists && thread.part == 0) out.dd[std::int64_t{sequence_block} * sizes.width + at] = dd;
}

void backward(const Tensor& dy, const Tensor& dfinal, const SelectiveScanInputs& in, const Tensor& chunk_states, SelectiveScanGradients& out) {
  const Sizes sizes(in);
  const Device device = dy.device();
  const std::int64_t columns_width = sizes.sequences * sizes.tokens * sizes.states, parts = sizes.tokens == 0 ? 0 : sizes.sequence_blocks;
  Tensor db = empty(Shape{sizes.channel_blocks, columns_width}, DType::Float32, device), dc = empty(db.shape(), DType::Float32, device);
  Tensor da_log = empty(Shape{parts, sizes.width * sizes.states}, DType::Float32, device),
         dd = empty(Shape{parts, sizes.width}, DType::Float32, device);
  if (sizes.tokens == 0) copy_states(dfinal, out.dinitial);
  for_element_type("selective_scan_backward", dy.dtype(), [&]<class T>() {
    const bool packs = has_packs<T>(in.x, sizes.width) && has_packs<float>(in.dt, sizes.width) && has_packs<T>(dy, sizes.width) &&
                       has_packs<T>(out.dx, sizes.width) && has_packs<float>(out.ddt, sizes.width);
    Tensor carried;
    if (sizes.groups > 1 && sizes.tokens > chunk) carried = empty(Shape{sizes.sequences, sizes.width, sizes.states}, DType::Float32, device);
    const Arrays<T> arrays{.dy = data<T>(dy),
                           .dfinal = data_or_null<float>(dfinal),
                           .chunk_states = data<float>(chunk_states),
                           .dx = data<T>(out.dx),
                           .ddt = data<float>(out.ddt),
                           .dinitial = data_or_null<float>(out.dinitial),
                           .carried = data_or_null<float>(carried),
                           .db = data<float>(db),
                           .dc = data<float>(dc),
                           .da_log = data<float>(da_log),
                           .dd = data<float>(dd)};
    const unsigned blocks = sizes.tokens == 0 ? 0 : sizes.blocks();
    if (sizes.groups > 1)
      launch<scan_backward<T, true>>(blocks, threads, sizeof(Tiles<T, true>), sizes, Inputs<T>(in), arrays, packs);
    else
      launch<scan_backward<T, false>>(blocks, threads, sizeof(Tiles<T, false>), sizes, Inputs<T>(in), arrays, packs);
  });
  add_partials(db, out.db, 0);
  add_partials(dc, out.dc, 0);
  add_partials(da_log, out.da_log, out.beta_a_log);
  add_partials(dd, out.dd, out.beta_d);
}

const bool added = add_kernel(selective_scan_backward, backward);

}  // namespace
}  // namespace mblm::cuda::selective
