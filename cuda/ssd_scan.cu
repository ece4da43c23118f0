#include "cuda/ssd_tile.h"

namespace mblm::cuda::ssd {
namespace {

constexpr int threads = 128, warps = threads / warp_size;

template <class T>
struct OutputTiles {
  alignas(16) StateTile<T> c, other;  // other: B, then the state of a head
  alignas(16) WidthTile<T> x, m;      // m: the matrix M, then y
  Decay decay[warps];  // of the next heads: one warp each
};

// As many as shared memory allows (54 KB in bfloat16, 71 KB in float32), within 168 registers.
template <class T>
inline constexpr int blocks_per_processor = sizeof(T) == 2 ? 3 : 2;

template <class T>
struct OutputArguments {
  Sizes n;
  const T *x, *b, *c;
  const float *dt, *a_log, *d;
  Borders<const float> h;
  T* y;
  int heads_per_block;
};

// y_i = a_0 ... a_i h C_i + sum_{j <= i} M_ij x_j + D x_i with M_ij = (C_i . B_j) a_{j+1} ... a_i dt_j, h the state before the chunk.
// A block computes some heads of one chunk, which share C B^T (in registers); each of its four warps has 16 tokens. M, h and the inputs
// of products are rounded to T; sums, factors and D x are float32. Per head and token 2 p (q + S) operations; x, y (2 p elements) and
// the share of h (p S / q floats) are read and written once.
template <class T, bool packs>
__global__ void __launch_bounds__(threads, blocks_per_processor<T>) outputs(OutputArguments<T> in) {
  constexpr int tile_states = tile_states_of<T>, width_row = row_of<T, tile_width>, state_row = row_of<T, tile_states>;
  OutputTiles<T>& tiles = shared_memory<OutputTiles<T>>();
  const Sizes& n = in.n;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size, group = lane / 4, t = lane % 4;
  const std::int64_t groups = (n.heads + in.heads_per_block - 1) / in.heads_per_block, unit = blockIdx.x / groups;
  const std::int64_t sequence = unit / n.chunks, chunk = unit % n.chunks, token = sequence * n.tokens + chunk * chunk_tokens;
  const int heads = static_cast<int>(n.heads), first_head = static_cast<int>(blockIdx.x % groups) * in.heads_per_block;
  const int q = static_cast<int>(std::min(std::int64_t{chunk_tokens}, n.tokens - chunk * chunk_tokens)), first_row = 16 * warp;
  const bool works = first_row < q;
  const float* h = in.h.before(n, sequence, chunk);
  const auto load_states = [&](auto& tile, const auto* from, std::int64_t s0, int rows) {
    load_tile<threads>(tile, Part<const std::remove_cvref_t<decltype(*from)>>{from + s0, n.states, rows, static_cast<int>(std::min(std::int64_t{tile_states}, n.states - s0)), packs});
  };
  const auto padded_states = [&](std::int64_t s0) { return round_up_16(static_cast<int>(std::min(std::int64_t{tile_states}, n.states - s0))); };

  float gram[chunk_tokens / 8][4] = {};  // C_i . B_j for this warp's i and j < first_row + 16
  for (std::int64_t s0 = 0; s0 < n.states; s0 += tile_states) {
    if (s0 > 0) __syncthreads();
    load_states(tiles.c, in.c + token * n.states, s0, q);
    load_states(tiles.other, in.b + token * n.states, s0, q);
    __syncthreads();
    if (works) multiply<false, false, state_row, state_row>(gram, &tiles.c[first_row][0], &tiles.other[0][0], padded_states(s0), first_row / 8 + 2);
  }
  for (int head = first_head; head < std::min(heads, first_head + in.heads_per_block); ++head) {
    for (std::int64_t p0 = 0; p0 < n.width; p0 += tile_width) {
      const int width = static_cast<int>(std::min(std::int64_t{tile_width}, n.width - p0)), width_tiles = round_up_16(width) / 8;
      const std::int64_t place = token * n.row() + head * n.width + p0;
      const float* head_h = h == nullptr ? nullptr : h + (std::int64_t{head} * n.width + p0) * n.states;
      __syncthreads();
      const int index = (head - first_head) % warps;
      if (index == 0 && p0 == 0 && head + warp < heads) find_decay(tiles.decay[warp], n, in.dt, in.a_log, token, q, head + warp);
      const Decay& decay = tiles.decay[index];
      load_tile<threads>(tiles.x, Part<const T>{in.x + place, n.row(), q, width, packs});
      float y[tile_width / 8][4] = {};
      for (std::int64_t s0 = 0; s0 < n.states && h != nullptr; s0 += tile_states) {
        if (s0 > 0) __syncthreads();
        if (n.states > tile_states) load_states(tiles.c, in.c + token * n.states, s0, q);
        load_states(tiles.other, head_h, s0, width);
        __syncthreads();
        if (works) multiply<false, false, state_row, state_row>(y, &tiles.c[first_row][0], &tiles.other[0][0], padded_states(s0), width_tiles);
      }
      if (h == nullptr) __syncthreads();
      if (works) {
        const int top = first_row + group, bottom = top + 8;
        const float top_factor = decay.from_start(top), bottom_factor = decay.from_start(bottom);
#pragma unroll
        for (int m = 0; m < tile_width / 8; ++m) y[m][0] *= top_factor, y[m][1] *= top_factor, y[m][2] *= bottom_factor, y[m][3] *= bottom_factor;
#pragma unroll
        for (int m = 0; m < chunk_tokens / 8; ++m) {
          if (8 * m >= first_row + 16) break;
          float v[4];
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            const int i = r < 2 ? top : bottom, j = 8 * m + 2 * t + r % 2;
            v[r] = j <= i ? gram[m][r] * decay.between(i, j) * decay.dt[j] : 0.0f;
          }
          write_2(&tiles.m[top][8 * m + 2 * t], v[0], v[1]);
          write_2(&tiles.m[bottom][8 * m + 2 * t], v[2], v[3]);
        }
        __syncwarp();
        multiply<false, true, width_row, width_row>(y, &tiles.m[first_row][0], &tiles.x[0][0], first_row + 16, width_tiles);
        __syncwarp();  // y replaces M
        const float d = in.d[head];
#pragma unroll
        for (int m = 0; m < tile_width / 8; ++m) {
          if (m >= width_tiles) break;
          const int k = 8 * m + 2 * t;
          write_2(&tiles.m[top][k], y[m][0] + d * to_float(tiles.x[top][k]), y[m][1] + d * to_float(tiles.x[top][k + 1]));
          write_2(&tiles.m[bottom][k], y[m][2] + d * to_float(tiles.x[bottom][k]), y[m][3] + d * to_float(tiles.x[bottom][k + 1]));
        }
        __syncwarp();
        store_tile<warp_size>(tiles.m, first_row, Part<T>{in.y + place + first_row * n.row(), n.row(), std::min(16, q - first_row), width, packs});
      }
    }
  }
}

// One token from a given state: a warp per row of h, N neighbouring states per lane. Memory bound: h is read and written once.
template <class T, int N>
__global__ void __launch_bounds__(threads) step(OutputArguments<T> in, float* last) {
  const Sizes& n = in.n;
  const std::int64_t row = std::int64_t{blockIdx.x} * (threads / warp_size) + threadIdx.x / warp_size;
  if (row >= n.batch * n.row()) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t sequence = row / n.row(), head = row % n.row() / n.width;
  const float dt = in.dt[sequence * n.heads + head], x = to_float(in.x[row]), keep = expf(-expf(in.a_log[head]) * dt);
  float y = 0;
  for (std::int64_t s = lane * N; s < n.states; s += warp_size * N) {
    float h[N], b[N], c[N];
    read_pack<N>(h, in.h.first + row * n.states + s);
    read_pack<N>(b, in.b + sequence * n.states + s);
    read_pack<N>(c, in.c + sequence * n.states + s);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      h[k] = keep * h[k] + dt * x * b[k];
      y += h[k] * c[k];
    }
    write_pack<N>(last + row * n.states + s, h);
  }
  y = warp_sum(y);
  if (lane == 0) in.y[row] = from_float<T>(y + in.d[head] * x);
}

// Also for one token, when step_to is the final state.
template <class T>
void find_outputs(const Sizes& n, const SsdScanInputs& in, const Borders<const float>& h, Tensor& y, float* step_to) {
  const int heads = heads_per_block(n, 1024);
  const bool packs = n.width % 8 == 0 && n.states % 8 == 0 && is_aligned(raw(in.x), 16) && is_aligned(raw(in.b), 16) && is_aligned(raw(in.c), 16) &&
                     is_aligned(raw(y), 16) && is_aligned(h.first, 16) && is_aligned(h.between, 16);
  const OutputArguments<T> arguments{n, data<T>(in.x), data<T>(in.b), data<T>(in.c), data<float>(in.dt), data<float>(in.a_log), data<float>(in.d), h,
                                     data<T>(y), heads};
  if (step_to != nullptr) {
    const unsigned blocks = blocks_for(n.batch * n.row(), threads / warp_size);
    if (packs && is_aligned(step_to, 16))
      launch<step<T, 4>>(blocks, threads, 0, arguments, step_to);
    else
      launch<step<T, 1>>(blocks, threads, 0, arguments, step_to);
    return;
  }
  const unsigned blocks = blocks_for(n.units() * divide_up(n.heads, heads), 1);
  if (packs)
    launch<outputs<T, true>>(blocks, threads, sizeof(OutputTiles<T>), arguments);
  else
    launch<outputs<T, false>>(blocks, threads, sizeof(OutputTiles<T>), arguments);
}

void forward(const Tensor& x, const SsdScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state) {
  const Sizes n(in);
  if (!in.initial.defined() && !final_state.defined() && is_short(n, {&x, &in.b, &in.c, &y})) return short_forward(n, in, y);
  for_element_type("ssd_scan_forward", x.dtype(), [&]<class T>() {
    Tensor between = chunk_states;
    if (!between.defined() && n.chunks > 1) between = empty(Shape{n.batch, n.chunks - 1, n.heads, n.width, n.states}, DType::Float32, x.device());
    float *first = static_cast<float*>(raw(in.initial)), *middle = static_cast<float*>(raw(between)), *last = static_cast<float*>(raw(final_state));
    const bool is_step = n.tokens == 1 && first != nullptr && last != nullptr;
    if (!is_step && (n.chunks > 1 || last != nullptr)) find_states(n, false, x, in.b, in.dt, in.a_log, {first, middle, last});
    find_outputs<T>(n, in, {first, middle, nullptr}, y, is_step ? last : nullptr);
  });
}

const bool added = add_kernel(ssd_scan_forward, forward);

}  // namespace
}  // namespace mblm::cuda::ssd
