#include "cuda/partials.h"
#include "cuda/ssd_tile.h"

namespace mblm::cuda::ssd {
namespace {

constexpr int threads = 128, warps = threads / warp_size;
constexpr int most_heads = 16;  // per block: their weights take 4 KB

template <class T>
struct SumTiles {
  alignas(16) WidthTile<T> rows[2];  // of two heads in turn
  alignas(16) StateTile<T> factors;
  Decay decay[warps];
  float weight[most_heads][chunk_tokens];
};

template <class T>
struct SumArguments {
  Sizes n;
  bool backward;
  const T *rows, *factors;
  const float *dt, *a_log;
  Borders<float> borders;
  float* whole;  // (B, chunks, H): a_0 ... a_{q-1}
  int heads_per_block, state_tiles;
  bool packs;
};

// The sum over the tokens of a chunk, without the state from its other side: sum_i weight_i rows_i (outer) factors_i, a (p x S) matrix
// per head. A block computes a tile of 64 x 128 for some heads of one chunk, whose factors stay in shared memory; each of its four
// warps has 16 rows. Weighted rows are rounded to T, sums are float32. Per chunk and head 2 q p S operations and 4 p S bytes written,
// so a chunk of 64 tokens is memory bound in bfloat16.
template <class T>
__global__ void __launch_bounds__(threads) chunk_sums(SumArguments<T> in) {
  constexpr int tile_states = tile_states_of<T>;
  SumTiles<T>& tiles = shared_memory<SumTiles<T>>();
  const Sizes& n = in.n;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size, group = lane / 4, t = lane % 4;
  const std::int64_t groups = (n.heads + in.heads_per_block - 1) / in.heads_per_block, unit = blockIdx.x / groups;
  const std::int64_t sequence = unit / n.chunks, chunk = unit % n.chunks, token = sequence * n.tokens + chunk * chunk_tokens;
  const std::int64_t first_head = blockIdx.x % groups * in.heads_per_block;
  const int q = static_cast<int>(std::min(std::int64_t{chunk_tokens}, n.tokens - chunk * chunk_tokens));
  const std::int64_t p0 = std::int64_t{blockIdx.y} / in.state_tiles * tile_width, s0 = std::int64_t{blockIdx.y} % in.state_tiles * tile_states;
  const int width = static_cast<int>(std::min(std::int64_t{tile_width}, n.width - p0)), states = static_cast<int>(std::min(std::int64_t{tile_states}, n.states - s0));
  float* out = in.backward ? in.borders.before(n, sequence, chunk) : in.borders.after(n, sequence, chunk);
  if (out == nullptr) return;  // the whole block

  const int heads = static_cast<int>(std::min(n.heads - first_head, std::int64_t{in.heads_per_block}));
  load_tile<threads>(tiles.factors, Part<const T>{in.factors + token * n.states + s0, n.states, q, states, in.packs});
  for (int k = warp; k < heads; k += warps) {
    Decay& decay = tiles.decay[warp];
    find_decay(decay, n, in.dt, in.a_log, token, q, first_head + k);
    __syncwarp();
    for (int i = lane; i < chunk_tokens; i += warp_size) tiles.weight[k][i] = in.backward ? decay.from_start(i) : decay.to_end(i) * decay.dt[i];
    if (lane == 0 && blockIdx.y == 0) in.whole[unit * n.heads + first_head + k] = decay.whole();
    __syncwarp();
  }
  __syncthreads();
  for (int index = 0; index < heads; ++index) {
    const std::int64_t head = first_head + index;
    auto& rows = tiles.rows[index % 2];
    load_tile<threads>(rows, Part<const T>{in.rows + token * n.row() + head * n.width + p0, n.row(), q, width, in.packs}, [&](int i, int, float(&v)[8]) {
#pragma unroll
      for (int e = 0; e < 8; ++e) v[e] *= tiles.weight[index][i];
    });
    __syncthreads();
    if (16 * warp < width) {
      float sum[tile_states / 8][4] = {};
      multiply<true, true, row_of<T, tile_width>, row_of<T, tile_states>>(sum, &rows[0][16 * warp], &tiles.factors[0][0], round_up_16(q),
                                                                          round_up_16(states) / 8);
#pragma unroll
      for (int m = 0; m < tile_states / 8; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int r = 16 * warp + group + 8 * half, k = 8 * m + 2 * t;
          if (r >= width || k >= states) continue;
          float* to = out + (head * n.width + p0 + r) * n.states + s0 + k;
          if (in.packs) {
            write_2(to, sum[m][2 * half], sum[m][2 * half + 1]);
          } else {
            to[0] = sum[m][2 * half];
            if (k + 1 < states) to[1] = sum[m][2 * half + 1];
          }
        }
      }
    }
  }
}

constexpr int scan_threads = 256, at_once = 4;

// h' = a_0 ... a_{q-1} h + sum of the chunk, chunk after chunk (backward: from the last chunk down), in place of the sums. A thread has
// N neighbouring elements of one head of a sequence. It reads the sums of four chunks before it uses them, to hide their latency.
// Memory bound: 8 bytes per element and chunk.
template <int N>
__global__ void __launch_bounds__(scan_threads) scan_chunks(Sizes n, bool backward, Borders<float> borders, const float* whole) {
  const std::int64_t state = n.heads * n.head_state(), index = (std::int64_t{blockIdx.x} * scan_threads + threadIdx.x) * N;
  if (index >= n.batch * state) return;
  const std::int64_t sequence = index / state, element = index % state, head = element / n.head_state();
  float h[N] = {};
  const float* start = backward ? borders.last : borders.first;
  if (start != nullptr) read_pack<N>(h, start + index);
  for (std::int64_t step = 0; step < n.chunks; step += at_once) {
    float sum[at_once][N], factor[at_once];
    float* to[at_once];
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      to[k] = nullptr;
      if (step + k >= n.chunks) continue;
      const std::int64_t chunk = backward ? n.chunks - 1 - step - k : step + k;
      to[k] = backward ? borders.before(n, sequence, chunk) : borders.after(n, sequence, chunk);
      if (to[k] == nullptr) continue;
      read_pack<N>(sum[k], to[k] + element);
      factor[k] = whole[(sequence * n.chunks + chunk) * n.heads + head];
    }
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      if (to[k] == nullptr) continue;
#pragma unroll
      for (int e = 0; e < N; ++e) h[e] = factor[k] * h[e] + sum[k][e];
      write_pack<N>(to[k] + element, h);
    }
  }
}

constexpr int partial_rows = 64;

// Block b adds rows 64 b ... of partials (P, H) in order; a thread has a head.
__global__ void __launch_bounds__(scan_threads) add_rows(const float* partials, std::int64_t rows, std::int64_t heads, float* out) {
  const std::int64_t first = std::int64_t{blockIdx.x} * partial_rows, last = std::min(rows, first + partial_rows);
  for (std::int64_t head = threadIdx.x; head < heads; head += scan_threads) {
    float sum = 0;
#pragma unroll 8
    for (std::int64_t row = first; row < last; ++row) sum += partials[row * heads + head];
    out[blockIdx.x * heads + head] = sum;
  }
}

}  // namespace

void find_states(const Sizes& n, bool backward, const Tensor& rows, const Tensor& factors, const Tensor& dt, const Tensor& a_log,
                 const Borders<float>& borders) {
  Tensor whole = empty(Shape{n.batch, n.chunks, n.heads}, DType::Float32, rows.device());
  const int heads = std::min(heads_per_block(n, 2048), most_heads);
  bool packs = n.width % 8 == 0 && n.states % 8 == 0;
  for (const void* p : {raw(rows), raw(factors), static_cast<void*>(borders.first), static_cast<void*>(borders.between), static_cast<void*>(borders.last)})
    packs = packs && is_aligned(p, 16);
  for_element_type("ssd_scan", rows.dtype(), [&]<class T>() {
    const std::int64_t state_tiles = divide_up(n.states, tile_states_of<T>), width_tiles = divide_up(n.width, tile_width);
    require<ShapeError>(state_tiles * width_tiles < 65536, "ssd_scan: the state of one head is too large");
    const SumArguments<T> arguments{n,       backward,           data<T>(rows), data<T>(factors), data<float>(dt), data<float>(a_log),
                                    borders, data<float>(whole), heads,         static_cast<int>(state_tiles), packs};
    launch<chunk_sums<T>>(dim3(blocks_for(n.units() * divide_up(n.heads, heads), 1), static_cast<unsigned>(state_tiles * width_tiles)), threads,
                          sizeof(SumTiles<T>), arguments);
  });
  const std::int64_t elements = n.batch * n.heads * n.head_state();
  if (packs)
    launch<scan_chunks<4>>(blocks_for(elements, 4 * scan_threads), scan_threads, 0, n, backward, borders, data<float>(whole));
  else
    launch<scan_chunks<1>>(blocks_for(elements, scan_threads), scan_threads, 0, n, backward, borders, data<float>(whole));
}

void add_head_partials(const Tensor& partials, Tensor& out, float beta) {
  const std::int64_t rows = partials.size(0), heads = partials.size(1);
  Tensor sums = empty(Shape{divide_up(rows, partial_rows), heads}, DType::Float32, partials.device());
  launch<add_rows>(blocks_for(rows, partial_rows), scan_threads, 0, data<float>(partials), rows, heads, data<float>(sums));
  add_partials(sums, out, beta);
}

}  // namespace mblm::cuda::ssd
