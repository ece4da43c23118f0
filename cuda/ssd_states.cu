#include "cuda/partials.h"
#include "cuda/ssd_tile.h"

namespace mblm::cuda::ssd {
namespace {

constexpr int threads = 256, warps = threads / warp_size;
// A block has 32 rows of the state of a head and a tile of its columns: warp w has rows 16 (w mod 2) ... and part w / 2 of the columns.
constexpr int slice_rows = 32, row_groups = slice_rows / 16, parts = warps / row_groups;
constexpr int decays = 4;  // factors of so many chunks are computed at once, by one warp each
static_assert(chunk_tokens * slice_rows == threads * 8);  // a thread loads 8 elements of the rows of a chunk

template <class T>
struct WalkTiles {
  alignas(16) T rows[2][chunk_tokens][row_of<T, slice_rows>];  // of two chunks in turn, as the factors
  alignas(16) StateTile<T> factors[2];
  Decay decay[decays];  // dt is replaced by the weight of the token
};

template <class T>
struct WalkArguments {
  Sizes n;
  bool backward;
  const T *rows, *factors;
  const float *dt, *a_log;
  Borders<float> borders;
  int slices;
};

// A block walks over the chunks of a sequence with its part of the state of one head in registers:
//   h' = a_0 ... a_{q-1} h + sum_i weight_i rows_i (outer) factors_i.
// The rows and factors of the next chunk are under way while one is computed. Weighted rows are rounded to T, h and sums are float32. Per
// chunk and head 2 q p S operations; 4 p S bytes are written and q p rows read once, so chunks of 64 tokens are memory bound in bfloat16.
// The factors are read by every block of a sequence, from the cache.
template <class T, bool packs>
__global__ void __launch_bounds__(threads, 3) walk(WalkArguments<T> in) {
  constexpr int tile_states = tile_states_of<T>, state_tiles = tile_states / 8 / parts;
  WalkTiles<T>& tiles = shared_memory<WalkTiles<T>>();
  const Sizes& n = in.n;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size, group = lane / 4, t = lane % 4;
  const std::int64_t pair = blockIdx.x / in.slices, sequence = pair / n.heads, head = pair % n.heads;
  const std::int64_t p0 = blockIdx.x % in.slices * slice_rows, s0 = std::int64_t{blockIdx.y} * tile_states;
  const int width = static_cast<int>(std::min(std::int64_t{slice_rows}, n.width - p0)), states = static_cast<int>(std::min(std::int64_t{tile_states}, n.states - s0));
  const int first_row = 16 * (warp % row_groups), first_state = 8 * state_tiles * (warp / row_groups);
  const int own_tiles = first_row < width ? std::clamp((round_up_16(states) - first_state) / 8, 0, state_tiles) : 0;
  const auto chunk_at = [&](std::int64_t step) { return in.backward ? n.chunks - 1 - step : step; };
  const auto token_at = [&](std::int64_t chunk) { return sequence * n.tokens + chunk * chunk_tokens; };
  const auto tokens_in = [&](std::int64_t chunk) { return static_cast<int>(std::min(std::int64_t{chunk_tokens}, n.tokens - chunk * chunk_tokens)); };
  // The state at the last border is skipped if nobody needs it.
  const std::int64_t steps = n.chunks - ((in.backward ? in.borders.first : in.borders.last) == nullptr ? 1 : 0);

  constexpr int packs_per_row = slice_rows / 8;
  const int load_token = static_cast<int>(threadIdx.x) / packs_per_row, load_column = static_cast<int>(threadIdx.x) % packs_per_row * 8;
  float next_rows[8];
  const auto load = [&](std::int64_t step) {
    const std::int64_t chunk = chunk_at(step), token = token_at(chunk);
    const int q = tokens_in(chunk);
    const T* from = in.rows + (token + load_token) * n.row() + head * n.width + p0 + load_column;
#pragma unroll
    for (int e = 0; e < 8; ++e) next_rows[e] = 0;
    if (load_token < q && load_column < width) {
      if constexpr (packs) {
        read_8(next_rows, from);
      } else {
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (load_column + e < width) next_rows[e] = to_float(from[e]);
      }
    }
    const Part<const T> factors{in.factors + token * n.states + s0, n.states, q, states, packs};
    if constexpr (packs)
      copy_tile<threads>(tiles.factors[step % 2], factors);
    else
      load_tile<threads>(tiles.factors[step % 2], factors);
    commit_copies();
  };

  float h[state_tiles][4] = {};
  const auto for_states = [&](float* base, auto&& f) {  // f(elements, address, how many)
    float* own = base + (head * n.width + p0) * n.states + s0;
#pragma unroll
    for (int m = 0; m < state_tiles; ++m) {
      if (m >= own_tiles) break;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = first_row + group + 8 * half, k = first_state + 8 * m + 2 * t;
        if (r < width && k < states) f(h[m][2 * half], h[m][2 * half + 1], own + r * n.states + k, states - k);
      }
    }
  };
  if (steps > 0) load(0);
  if (const float* start = in.backward ? in.borders.last : in.borders.first; start != nullptr) {
    for_states(const_cast<float*>(start) + sequence * n.heads * n.head_state(), [](float& a, float& b, const float* from, int left) {
      a = from[0];
      if (left > 1) b = from[1];
    });
  }
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::int64_t chunk = chunk_at(step);
    if (step % decays == 0) {
      __syncthreads();
      if (warp < decays && step + warp < steps) {
        Decay& decay = tiles.decay[warp];
        const std::int64_t of = chunk_at(step + warp);
        find_decay(decay, n, in.dt, in.a_log, token_at(of), tokens_in(of), head);
        __syncwarp();
        for (int i = lane; i < chunk_tokens; i += warp_size) decay.dt[i] = in.backward ? decay.from_start(i) : decay.to_end(i) * decay.dt[i];
      }
      __syncthreads();
    }
    const Decay& decay = tiles.decay[step % decays];
    auto& rows = tiles.rows[step % 2];
    const float weight = decay.dt[load_token], whole = decay.whole();
#pragma unroll
    for (int e = 0; e < 8; ++e) next_rows[e] *= weight;
    write_8(&rows[load_token][load_column], next_rows);
    wait_copies<0>();
    __syncthreads();  // also: all warps are done with the tiles of the chunk before
    if (step + 1 < steps) load(step + 1);
#pragma unroll
    for (int m = 0; m < state_tiles; ++m) {
#pragma unroll
      for (int r = 0; r < 4; ++r) h[m][r] *= whole;
    }
    if (own_tiles > 0)
      multiply<true, true, row_of<T, slice_rows>, row_of<T, tile_states>>(h, &rows[0][first_row], &tiles.factors[step % 2][0][first_state], round_up_16(tokens_in(chunk)), own_tiles);
    for_states(in.backward ? in.borders.before(n, sequence, chunk) : in.borders.after(n, sequence, chunk), [](float a, float b, float* to, int left) {
      if constexpr (packs) {
        write_2(to, a, b);
      } else {
        to[0] = a;
        if (left > 1) to[1] = b;
      }
    });
  }
}

constexpr int add_threads = 256;

constexpr int partial_rows = 64;

// Block b adds rows 64 b ... of partials (P, H) in order; a thread has a head.
__global__ void __launch_bounds__(add_threads) add_rows(const float* partials, std::int64_t rows, std::int64_t heads, float* out) {
  const std::int64_t first = std::int64_t{blockIdx.x} * partial_rows, last = std::min(rows, first + partial_rows);
  for (std::int64_t head = threadIdx.x; head < heads; head += add_threads) {
    float sum = 0;
#pragma unroll 8
    for (std::int64_t row = first; row < last; ++row) sum += partials[row * heads + head];
    out[blockIdx.x * heads + head] = sum;
  }
}

}  // namespace

void find_states(const Sizes& n, bool backward, const Tensor& rows, const Tensor& factors, const Tensor& dt, const Tensor& a_log,
                 const Borders<float>& borders) {
  bool packs = n.width % 8 == 0 && n.states % 8 == 0;
  for (const void* p : {raw(rows), raw(factors), static_cast<void*>(borders.first), static_cast<void*>(borders.between), static_cast<void*>(borders.last)})
    packs = packs && is_aligned(p, 16);
  for_element_type("ssd_scan", rows.dtype(), [&]<class T>() {
    const std::int64_t state_tiles = divide_up(n.states, tile_states_of<T>), slices = divide_up(n.width, slice_rows);
    require<ShapeError>(state_tiles < 65536 && slices <= largest_grid, "ssd_scan: the state of one head is too large");
    const WalkArguments<T> arguments{n, backward, data<T>(rows), data<T>(factors), data<float>(dt), data<float>(a_log), borders, static_cast<int>(slices)};
    const dim3 grid(blocks_for(n.batch * n.heads * slices, 1), static_cast<unsigned>(state_tiles));
    if (packs)
      launch<walk<T, true>>(grid, threads, sizeof(WalkTiles<T>), arguments);
    else
      launch<walk<T, false>>(grid, threads, sizeof(WalkTiles<T>), arguments);
  });
}

void add_head_partials(const Tensor& partials, Tensor& out, float beta) {
  const std::int64_t rows = partials.size(0), heads = partials.size(1);
  Tensor sums = empty(Shape{divide_up(rows, partial_rows), heads}, DType::Float32, partials.device());
  launch<add_rows>(blocks_for(rows, partial_rows), add_threads, 0, data<float>(partials), rows, heads, data<float>(sums));
  add_partials(sums, out, beta);
}

}  // namespace mblm::cuda::ssd
