#include "ops/layer_norm.h"

#include "cuda/partials.h"
#include "cuda/row_team.h"

namespace mblm::cuda {
namespace {

// A team of warps per row, the row in registers: x is read once, y written once. Weight and bias come from the caches. 8 operations per
// element; float32 x and bfloat16 y: 6 bytes. The mean and then the squared distances from it, which do not cancel as
// sum(x^2) - D mean^2 does, are float32 sums: up to 32 additions per lane, then over the lanes. Lanes hold the same elements for every
// type of y, so that a bfloat16 y is the float32 y, rounded.
template <int warps, class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    forward_rows(const X* x, const float* weight, const float* bias, float eps, std::int64_t rows, int width, Y* y, float* statistics) {
  constexpr int N = 16 / static_cast<int>(sizeof(X)), packs = lane_elements / N;
  using Team = RowTeam<warps>;
  TeamSums<1>& shared = shared_memory<TeamSums<1>>();
  const std::int64_t row = std::int64_t{blockIdx.x} * Team::count + Team::index();
  const bool active = row < rows;
  Elements<X, N> in[packs];
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (active && column < width) in[p].read(x + row * width + column);
  }
  float sum[1] = {0}, square[1] = {0};
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    if (active && Team::template column<N>(p) < width) {
#pragma unroll
      for (int j = 0; j < N; ++j) sum[0] += in[p][j];
    }
  }
  team_sums<warps>(sum, shared, 0);
  const float mean = sum[0] / static_cast<float>(width);
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    if (active && Team::template column<N>(p) < width) {
#pragma unroll
      for (int j = 0; j < N; ++j) square[0] += (in[p][j] - mean) * (in[p][j] - mean);
    }
  }
  team_sums<warps>(square, shared, 1);
  if (!active) return;
  const float r = 1.0f / sqrtf(square[0] / static_cast<float>(width) + eps);
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (column < width) {
      Elements<float, N> g, b;
      g.read(weight + column);
      b.read(bias + column);
      float out[N];
#pragma unroll
      for (int j = 0; j < N; ++j) out[j] = (in[p][j] - mean) * r * g[j] + b[j];
      write_elements<N>(y + row * width + column, out);
    }
  }
  if (Team::lane() == 0) {
    statistics[2 * row] = mean;
    statistics[2 * row + 1] = r;
  }
}

// The same for any width and alignment: a warp per row, which it reads three times.
template <class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    forward_long_rows(const X* x, const float* weight, const float* bias, float eps, std::int64_t rows, std::int64_t width, Y* y, float* statistics) {
  const std::int64_t row = std::int64_t{blockIdx.x} * norm_warps + threadIdx.x / warp_size;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const X* in = x + row * width;
  float sum = 0, square = 0;
  for (std::int64_t i = lane; i < width; i += warp_size) sum += to_float(in[i]);
  const float mean = warp_sum(sum) / static_cast<float>(width);
  for (std::int64_t i = lane; i < width; i += warp_size) square += (to_float(in[i]) - mean) * (to_float(in[i]) - mean);
  const float r = 1.0f / sqrtf(warp_sum(square) / static_cast<float>(width) + eps);
  for (std::int64_t i = lane; i < width; i += warp_size) y[row * width + i] = from_float<Y>((to_float(in[i]) - mean) * r * weight[i] + bias[i]);
  if (lane == 0) {
    statistics[2 * row] = mean;
    statistics[2 * row + 1] = r;
  }
}

template <int warps>
struct BackwardShared {
  TeamSums<2> row_sums;
  float sums[warps * warp_elements];
};

// With z = (x - mean) r and h = g dy: dx = r (h - mean(h) - z mean(h z)). A team of warps per row, x and dy in registers: both are read
// once, dx written once. The teams of a block share `block_rows` rows, and each lane sums the gradients of weight and bias for its
// columns; the sums of the block are a row of each array of partial sums. 16 operations per element; float32 x and bfloat16 dy: 10
// bytes. All sums are float32.
template <int warps, class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    backward_rows(const X* x, const float* weight, const float* statistics, const Y* dy, std::int64_t rows, int width, std::int64_t block_rows,
                  X* dx, float* weight_partials, float* bias_partials) {
  constexpr int N = 16 / static_cast<int>(sizeof(X)), packs = lane_elements / N;
  using Team = RowTeam<warps>;
  BackwardShared<warps>& shared = shared_memory<BackwardShared<warps>>();
  float dweight[lane_elements] = {}, dbias[lane_elements] = {};
  const std::int64_t first = std::int64_t{blockIdx.x} * block_rows;
  // All teams take the same number of rounds, because they meet in barriers; block_rows is a multiple of their number.
  for (std::int64_t round = 0; round * Team::count < block_rows; ++round) {
    const std::int64_t row = first + round * Team::count + Team::index();
    const bool active = row < rows;
    Elements<X, N> in[packs];
    Elements<Y, N> d[packs];
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int column = Team::template column<N>(p);
      if (active && column < width) {
        in[p].read(x + row * width + column);
        d[p].read(dy + row * width + column);
      }
    }
    const float mean = active ? statistics[2 * row] : 0.0f, r = active ? statistics[2 * row + 1] : 0.0f;
    float sums[2] = {0, 0};  // of h and of h z
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int column = Team::template column<N>(p);
      if (active && column < width) {
        Elements<float, N> g;
        g.read(weight + column);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const float h = g[j] * d[p][j];
          sums[0] += h;
          sums[1] += h * (in[p][j] - mean) * r;
        }
      }
    }
    team_sums<warps>(sums, shared.row_sums, static_cast<int>(round % 2));
    if (!active) continue;
    const float a = sums[0] / static_cast<float>(width), c = sums[1] / static_cast<float>(width);
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int column = Team::template column<N>(p);
      if (column < width) {
        Elements<float, N> g;
        g.read(weight + column);
        float out[N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const float z = (in[p][j] - mean) * r;
          out[j] = r * (g[j] * d[p][j] - a - z * c);
          dweight[p * N + j] += d[p][j] * z;
          dbias[p * N + j] += d[p][j];
        }
        write_elements<N>(dx + row * width + column, out);
      }
    }
  }
  write_block_sums<warps, N>(dweight, shared.sums, width, weight_partials + std::int64_t{blockIdx.x} * width);
  write_block_sums<warps, N>(dbias, shared.sums, width, bias_partials + std::int64_t{blockIdx.x} * width);
}

// dx for any width and alignment: a warp per row, which it reads twice.
template <class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    backward_long_rows(const X* x, const float* weight, const float* statistics, const Y* dy, std::int64_t rows, std::int64_t width, X* dx) {
  const std::int64_t row = std::int64_t{blockIdx.x} * norm_warps + threadIdx.x / warp_size;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const X* in = x + row * width;
  const Y* d = dy + row * width;
  const float mean = statistics[2 * row], r = statistics[2 * row + 1];
  float sum = 0, dot = 0;
  for (std::int64_t i = lane; i < width; i += warp_size) {
    const float h = weight[i] * to_float(d[i]);
    sum += h;
    dot += h * (to_float(in[i]) - mean) * r;
  }
  const float a = warp_sum(sum) / static_cast<float>(width), c = warp_sum(dot) / static_cast<float>(width);
  for (std::int64_t i = lane; i < width; i += warp_size)
    dx[row * width + i] = from_float<X>(r * (weight[i] * to_float(d[i]) - a - (to_float(in[i]) - mean) * r * c));
}

// The partial sums of dweight and dbias over the rows of one block, for 32 columns: warp w adds every eighth row, then warp 0 adds the
// 8 sums.
struct ColumnSums {
  float weight[norm_warps][warp_size], bias[norm_warps][warp_size];
};
template <class X, class Y>
__global__ void __launch_bounds__(norm_threads)
    column_partials(const X* x, const float* statistics, const Y* dy, std::int64_t rows, std::int64_t width, std::int64_t block_rows,
                    float* weight_partials, float* bias_partials) {
  ColumnSums& shared = shared_memory<ColumnSums>();
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const std::int64_t tiles = (width + warp_size - 1) / warp_size, column = blockIdx.x % tiles * warp_size + lane, block = blockIdx.x / tiles;
  const std::int64_t end = std::min((block + 1) * block_rows, rows);
  float dweight = 0, dbias = 0;
  if (column < width) {
    for (std::int64_t row = block * block_rows + warp; row < end; row += norm_warps) {
      const float d = to_float(dy[row * width + column]);
      dweight += d * (to_float(x[row * width + column]) - statistics[2 * row]) * statistics[2 * row + 1];
      dbias += d;
    }
  }
  shared.weight[warp][lane] = dweight;
  shared.bias[warp][lane] = dbias;
  __syncthreads();
  if (warp != 0 || column >= width) return;
  for (int other = 1; other < norm_warps; ++other) {
    dweight += shared.weight[other][lane];
    dbias += shared.bias[other][lane];
  }
  weight_partials[block * width + column] = dweight;
  bias_partials[block * width + column] = dbias;
}

void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, Tensor& y, Tensor& statistics) {
  for_element_types("layer_norm_forward", x.dtype(), y.dtype(), [&]<class X, class Y>() {
    constexpr int N = 16 / static_cast<int>(sizeof(X));
    const std::int64_t rows = x.shape().rows(), width = x.shape().last();
    const X* in = data<X>(x);
    const float *g = data<float>(weight), *b = data<float>(bias);
    Y* out = data<Y>(y);
    const bool aligned = is_aligned(in, 16) && is_aligned(g, 16) && is_aligned(b, 16) && is_aligned(out, 16);
    const bool done = aligned && for_team_size<N>(width, [&]<int warps>() {
      launch<forward_rows<warps, X, Y>>(blocks_for(rows, RowTeam<warps>::count), norm_threads, sizeof(TeamSums<1>), in, g, b,
                                        static_cast<float>(eps), rows, static_cast<int>(width), out, data<float>(statistics));
    });
    if (!done)
      launch<forward_long_rows<X, Y>>(blocks_for(rows, norm_warps), norm_threads, 0, in, g, b, static_cast<float>(eps), rows, width, out,
                                      data<float>(statistics));
  });
}

void backward(const Tensor& x, const Tensor& weight, const Tensor& statistics, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta_weight,
              Tensor& dbias, float beta_bias) {
  for_element_types("layer_norm_backward", x.dtype(), dy.dtype(), [&]<class X, class Y>() {
    constexpr int N = 16 / static_cast<int>(sizeof(X));
    const std::int64_t rows = x.shape().rows(), width = x.shape().last();
    const X* in = data<X>(x);
    const Y* d = data<Y>(dy);
    const float *g = data<float>(weight), *s = data<float>(statistics);
    X* out = data<X>(dx);
    Tensor weight_partials, bias_partials;
    const auto make_partials = [&](std::int64_t blocks) {
      weight_partials = empty(Shape{blocks, width}, DType::Float32, x.device());
      bias_partials = empty_like(weight_partials);
    };
    const bool aligned = is_aligned(in, 16) && is_aligned(d, 16) && is_aligned(g, 16) && is_aligned(out, 16);
    const bool done = aligned && for_team_size<N>(width, [&]<int warps>() {
      const std::int64_t block_rows = rows_of_block(rows, RowTeam<warps>::count);
      make_partials(divide_up(rows, block_rows));
      launch<backward_rows<warps, X, Y>>(blocks_for(rows, block_rows), norm_threads, sizeof(BackwardShared<warps>), in, g, s, d, rows,
                                         static_cast<int>(width), block_rows, out, data<float>(weight_partials), data<float>(bias_partials));
    });
    if (!done) {
      const std::int64_t block_rows = rows_of_block(rows, norm_warps), blocks = divide_up(rows, block_rows);
      make_partials(blocks);
      launch<backward_long_rows<X, Y>>(blocks_for(rows, norm_warps), norm_threads, 0, in, g, s, d, rows, width, out);
      launch<column_partials<X, Y>>(blocks_for(blocks * divide_up(width, warp_size), 1), norm_threads, sizeof(ColumnSums), in, s, d, rows, width,
                                    block_rows, data<float>(weight_partials), data<float>(bias_partials));
    }
    add_partials(weight_partials, dweight, beta_weight);
    add_partials(bias_partials, dbias, beta_bias);
  });
}

const bool added = add_kernel(layer_norm_forward, forward) && add_kernel(layer_norm_backward, backward);

}  // namespace
}  // namespace mblm::cuda
