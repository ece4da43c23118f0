#include "ops/rms_norm.h"

#include "cuda/partials.h"
#include "cuda/row_team.h"

namespace mblm::cuda {
namespace {

// The factor of a row with that mean square, and the sign that marks a clamped row in rstd.
struct Factor {
  float r;
  bool clamped;
  __device__ Factor(float mean, bool clamps, float eps)
      : clamped(clamps && sqrtf(mean) < eps) {
    r = clamped ? 1.0f / eps : 1.0f / sqrtf(clamps ? mean : mean + eps);
  }
  __device__ float stored() const { return clamped ? -r : r; }
};

// A team of warps per row, the row in registers: x is read once, y written once. The weight comes from the caches.
// 4 operations per element; float32 x and bfloat16 y: 6 bytes. The sum of squares is float32: up to 32 additions per lane, then over
// the lanes. Lanes hold the same elements for every type of y, so that a bfloat16 y is the float32 y, rounded.
template <int warps, class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    forward_rows(const X* x, const float* weight, bool clamps, float eps, std::int64_t rows, int width, Y* y, float* rstd) {
  constexpr int N = 16 / static_cast<int>(sizeof(X)), packs = lane_elements / N;
  using Team = RowTeam<warps>;
  const std::int64_t row = std::int64_t{blockIdx.x} * Team::count + Team::index();
  const bool active = row < rows;
  Elements<X, N> in[packs];
  float square[1] = {0};
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (active && column < width) in[p].read(x + row * width + column);
  }
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    if (active && Team::template column<N>(p) < width) {
#pragma unroll
      for (int j = 0; j < N; ++j) square[0] += in[p][j] * in[p][j];
    }
  }
  team_sums<warps>(square, shared_memory<TeamSums<1>>(), 0);
  if (!active) return;
  const Factor factor(square[0] / static_cast<float>(width), clamps, eps);
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (column < width) {
      Elements<float, N> g;
      g.read(weight + column);
      float out[N];
#pragma unroll
      for (int j = 0; j < N; ++j) out[j] = in[p][j] * factor.r * g[j];
      write_elements<N>(y + row * width + column, out);
    }
  }
  if (Team::lane() == 0) rstd[row] = factor.stored();
}

// The same for any width and alignment: a warp per row, which it reads twice.
template <class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    forward_long_rows(const X* x, const float* weight, bool clamps, float eps, std::int64_t rows, std::int64_t width, Y* y, float* rstd) {
  const std::int64_t row = std::int64_t{blockIdx.x} * norm_warps + threadIdx.x / warp_size;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const X* in = x + row * width;
  float square = 0;
  for (std::int64_t i = lane; i < width; i += warp_size) square += to_float(in[i]) * to_float(in[i]);
  const Factor factor(warp_sum(square) / static_cast<float>(width), clamps, eps);
  for (std::int64_t i = lane; i < width; i += warp_size) y[row * width + i] = from_float<Y>(to_float(in[i]) * factor.r * weight[i]);
  if (lane == 0) rstd[row] = factor.stored();
}

template <int warps>
struct BackwardShared {
  TeamSums<1> dots;
  float sums[warps * warp_elements];
};

// dx = r g dy - x r^3 <g dy, x> / D. A team of warps per row, x and dy in registers: both are read once, dx written once. The teams of
// a block share `block_rows` rows, and each lane sums the gradient of the weight for its columns; the sums of the block are a row of
// `partials`. 12 operations per element; float32 x and bfloat16 dy: 10 bytes. All sums are float32.
template <int warps, class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    backward_rows(const X* x, const float* weight, const float* rstd, const Y* dy, std::int64_t rows, int width, std::int64_t block_rows, X* dx,
                  float* partials) {
  constexpr int N = 16 / static_cast<int>(sizeof(X)), packs = lane_elements / N;
  using Team = RowTeam<warps>;
  BackwardShared<warps>& shared = shared_memory<BackwardShared<warps>>();
  float dweight[lane_elements] = {};
  const std::int64_t first = std::int64_t{blockIdx.x} * block_rows;
  // All teams take the same number of rounds, because they meet in barriers; block_rows is a multiple of their number.
  for (std::int64_t round = 0; round * Team::count < block_rows; ++round) {
    const std::int64_t row = first + round * Team::count + Team::index();
    const bool active = row < rows;
    Elements<X, N> in[packs];
    Elements<Y, N> d[packs];
    float dot[1] = {0};
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int column = Team::template column<N>(p);
      if (active && column < width) {
        in[p].read(x + row * width + column);
        d[p].read(dy + row * width + column);
      }
    }
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int column = Team::template column<N>(p);
      if (active && column < width) {
        Elements<float, N> g;
        g.read(weight + column);
#pragma unroll
        for (int j = 0; j < N; ++j) dot[0] += d[p][j] * g[j] * in[p][j];
      }
    }
    team_sums<warps>(dot, shared.dots, static_cast<int>(round % 2));
    if (!active) continue;
    const float stored = rstd[row], r = fabsf(stored), c = stored < 0 ? 0.0f : dot[0] * r * r * r / static_cast<float>(width);
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int column = Team::template column<N>(p);
      if (column < width) {
        Elements<float, N> g;
        g.read(weight + column);
        float out[N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
          out[j] = r * g[j] * d[p][j] - c * in[p][j];
          dweight[p * N + j] += d[p][j] * in[p][j] * r;
        }
        write_elements<N>(dx + row * width + column, out);
      }
    }
  }
  write_block_sums<warps, N>(dweight, shared.sums, width, partials + std::int64_t{blockIdx.x} * width);
}

// dx for any width and alignment: a warp per row, which it reads twice.
template <class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    backward_long_rows(const X* x, const float* weight, const float* rstd, const Y* dy, std::int64_t rows, std::int64_t width, X* dx) {
  const std::int64_t row = std::int64_t{blockIdx.x} * norm_warps + threadIdx.x / warp_size;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const X* in = x + row * width;
  const Y* d = dy + row * width;
  float dot = 0;
  for (std::int64_t i = lane; i < width; i += warp_size) dot += to_float(d[i]) * weight[i] * to_float(in[i]);
  dot = warp_sum(dot);
  const float stored = rstd[row], r = fabsf(stored), c = stored < 0 ? 0.0f : dot * r * r * r / static_cast<float>(width);
  for (std::int64_t i = lane; i < width; i += warp_size)
    dx[row * width + i] = from_float<X>(r * weight[i] * to_float(d[i]) - c * to_float(in[i]));
}

// The partial sums of dweight over the rows of one block, for 32 columns: warp w adds every eighth row, then warp 0 adds the 8 sums.
struct ColumnSums {
  float part[norm_warps][warp_size];
};
template <class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    weight_partials(const X* x, const float* rstd, const Y* dy, std::int64_t rows, std::int64_t width, std::int64_t block_rows, float* partials) {
  ColumnSums& shared = shared_memory<ColumnSums>();
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const std::int64_t tiles = (width + warp_size - 1) / warp_size, column = blockIdx.x % tiles * warp_size + lane, block = blockIdx.x / tiles;
  const std::int64_t end = std::min((block + 1) * block_rows, rows);
  float sum = 0;
  if (column < width)
    for (std::int64_t row = block * block_rows + warp; row < end; row += norm_warps)
      sum += to_float(dy[row * width + column]) * to_float(x[row * width + column]) * fabsf(rstd[row]);
  shared.part[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= width) return;
  for (int other = 1; other < norm_warps; ++other) sum += shared.part[other][lane];
  partials[block * width + column] = sum;
}

void forward(const Tensor& x, const Tensor& weight, RmsForm form, double eps, Tensor& y, Tensor& rstd) {
  for_element_types("rms_norm_forward", x.dtype(), y.dtype(), [&]<class X, class Y>() {
    constexpr int N = 16 / static_cast<int>(sizeof(X));
    const std::int64_t rows = x.shape().rows(), width = x.shape().last();
    const X* in = data<X>(x);
    const float* g = data<float>(weight);
    Y* out = data<Y>(y);
    const bool clamps = form == RmsForm::ClampedL2, aligned = is_aligned(in, 16) && is_aligned(g, 16) && is_aligned(out, 16);
    const bool done = aligned && for_team_size<N>(width, [&]<int warps>() {
      launch<forward_rows<warps, X, Y>>(blocks_for(rows, RowTeam<warps>::count), norm_threads, sizeof(TeamSums<1>), in, g, clamps,
                                        static_cast<float>(eps), rows, static_cast<int>(width), out, data<float>(rstd));
    });
    if (!done)
      launch<forward_long_rows<X, Y>>(blocks_for(rows, norm_warps), norm_threads, 0, in, g, clamps, static_cast<float>(eps), rows, width, out,
                                      data<float>(rstd));
  });
}

void backward(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta) {
  for_element_types("rms_norm_backward", x.dtype(), dy.dtype(), [&]<class X, class Y>() {
    constexpr int N = 16 / static_cast<int>(sizeof(X));
    const std::int64_t rows = x.shape().rows(), width = x.shape().last();
    const X* in = data<X>(x);
    const Y* d = data<Y>(dy);
    const float *g = data<float>(weight), *f = data<float>(rstd);
    X* out = data<X>(dx);
    Tensor partials;
    const bool aligned = is_aligned(in, 16) && is_aligned(d, 16) && is_aligned(g, 16) && is_aligned(out, 16);
    const bool done = aligned && for_team_size<N>(width, [&]<int warps>() {
      constexpr int teams = RowTeam<warps>::count;
      const std::int64_t block_rows = rows_of_block(rows, teams), blocks = divide_up(rows, block_rows);
      partials = empty(Shape{blocks, width}, DType::Float32, x.device());
      launch<backward_rows<warps, X, Y>>(blocks_for(rows, block_rows), norm_threads, sizeof(BackwardShared<warps>), in, g, f, d, rows,
                                         static_cast<int>(width), block_rows, out, data<float>(partials));
    });
    if (!done) {
      const std::int64_t block_rows = rows_of_block(rows, norm_warps), blocks = divide_up(rows, block_rows);
      partials = empty(Shape{blocks, width}, DType::Float32, x.device());
      launch<backward_long_rows<X, Y>>(blocks_for(rows, norm_warps), norm_threads, 0, in, g, f, d, rows, width, out);
      launch<weight_partials<X, Y>>(blocks_for(blocks * divide_up(width, warp_size), 1), norm_threads, sizeof(ColumnSums), in, f, d, rows, width,
                                    block_rows, data<float>(partials));
    }
    add_partials(partials, dweight, beta);
  });
}

const bool added = add_kernel(rms_norm_forward, forward) && add_kernel(rms_norm_backward, backward);

}  // namespace
}  // namespace mblm::cuda
