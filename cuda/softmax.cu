#include "ops/softmax.h"

#include <limits>

#include "cuda/row_team.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

// A team of warps per row, the row in registers: x is read once, y written once; bfloat16: 4 bytes and about 10 operations per element.
// Maximum and sum are float32: up to 32 elements per lane, then over the lanes.
template <int warps, class T>
__global__ void __launch_bounds__(norm_threads) forward_rows(const T* x, std::int64_t rows, int width, T* y) {
  constexpr int N = 16 / static_cast<int>(sizeof(T)), packs = lane_elements / N;
  using Team = RowTeam<warps>;
  TeamSums<1>& shared = shared_memory<TeamSums<1>>();
  const std::int64_t row = std::int64_t{blockIdx.x} * Team::count + Team::index();
  const bool active = row < rows;
  float v[packs][N], largest[1] = {-std::numeric_limits<float>::infinity()}, sum[1] = {0};
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (active && column < width) read_pack<N>(v[p], x + row * width + column);
  }
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    if (active && Team::template column<N>(p) < width) {
#pragma unroll
      for (int j = 0; j < N; ++j) largest[0] = TeamMax::of(largest[0], v[p][j]);
    }
  }
  join_team<warps, TeamMax>(largest, shared, 0);
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    if (active && Team::template column<N>(p) < width) {
#pragma unroll
      for (int j = 0; j < N; ++j) {
        v[p][j] = scalar::exp(v[p][j] - largest[0]);
        sum[0] += v[p][j];
      }
    }
  }
  join_team<warps, TeamSum>(sum, shared, 1);
  if (!active) return;
  const float factor = 1.0f / sum[0];
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (column < width) {
#pragma unroll
      for (int j = 0; j < N; ++j) v[p][j] *= factor;
      write_pack<N>(y + row * width + column, v[p]);
    }
  }
}

// The same for any width and alignment: a team per row, which it reads three times, the last two from the caches if the row fits.
template <int warps, class T>
__global__ void __launch_bounds__(norm_threads) forward_long_rows(const T* x, std::int64_t rows, std::int64_t width, T* y) {
  using Team = RowTeam<warps>;
  TeamSums<1>& shared = shared_memory<TeamSums<1>>();
  const std::int64_t row = std::int64_t{blockIdx.x} * Team::count + Team::index(), end = row < rows ? width : 0;
  const T* in = x + row * width;
  float largest[1] = {-std::numeric_limits<float>::infinity()}, sum[1] = {0};
  for (std::int64_t i = Team::lane(); i < end; i += Team::threads) largest[0] = TeamMax::of(largest[0], to_float(in[i]));
  join_team<warps, TeamMax>(largest, shared, 0);
  for (std::int64_t i = Team::lane(); i < end; i += Team::threads) sum[0] += scalar::exp(to_float(in[i]) - largest[0]);
  join_team<warps, TeamSum>(sum, shared, 1);
  const float factor = 1.0f / sum[0];
  for (std::int64_t i = Team::lane(); i < end; i += Team::threads)
    y[row * width + i] = from_float<T>(scalar::exp(to_float(in[i]) - largest[0]) * factor);
}

// dx = y (dy - <dy, y>). A team of warps per row, y and dy in registers: both are read once, dx written once; 4 operations per element.
// bfloat16: 6 bytes. The product is float32.
template <int warps, class T>
__global__ void __launch_bounds__(norm_threads) backward_rows(const T* y, const T* dy, std::int64_t rows, int width, T* dx) {
  constexpr int N = 16 / static_cast<int>(sizeof(T)), packs = lane_elements / N;
  using Team = RowTeam<warps>;
  const std::int64_t row = std::int64_t{blockIdx.x} * Team::count + Team::index();
  const bool active = row < rows;
  Elements<T, N> kept[packs], d[packs];
  float dot[1] = {0};
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (active && column < width) {
      kept[p].read(y + row * width + column);
      d[p].read(dy + row * width + column);
    }
  }
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    if (active && Team::template column<N>(p) < width) {
#pragma unroll
      for (int j = 0; j < N; ++j) dot[0] += d[p][j] * kept[p][j];
    }
  }
  join_team<warps, TeamSum>(dot, shared_memory<TeamSums<1>>(), 0);
  if (!active) return;
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int column = Team::template column<N>(p);
    if (column < width) {
      float out[N];
#pragma unroll
      for (int j = 0; j < N; ++j) out[j] = kept[p][j] * (d[p][j] - dot[0]);
      write_pack<N>(dx + row * width + column, out);
    }
  }
}

// The same for any width and alignment: a team per row, which it reads twice.
template <int warps, class T>
__global__ void __launch_bounds__(norm_threads) backward_long_rows(const T* y, const T* dy, std::int64_t rows, std::int64_t width, T* dx) {
  using Team = RowTeam<warps>;
  const std::int64_t row = std::int64_t{blockIdx.x} * Team::count + Team::index(), end = row < rows ? width : 0;
  const T *kept = y + row * width, *d = dy + row * width;
  float dot[1] = {0};
  for (std::int64_t i = Team::lane(); i < end; i += Team::threads) dot[0] += to_float(d[i]) * to_float(kept[i]);
  join_team<warps, TeamSum>(dot, shared_memory<TeamSums<1>>(), 0);
  for (std::int64_t i = Team::lane(); i < end; i += Team::threads)
    dx[row * width + i] = from_float<T>(to_float(kept[i]) * (to_float(d[i]) - dot[0]));
}

// Rows that no team holds in registers: a warp for a short one, a block for a long one.
template <class F>
void for_long_rows(std::int64_t width, F&& f) {
  if (width <= warp_elements)
    f.template operator()<1>();
  else
    f.template operator()<norm_warps>();
}

void forward(const Tensor& x, Tensor& y) {
  for_element_type("softmax_forward", x.dtype(), [&]<class T>() {
    constexpr int N = 16 / static_cast<int>(sizeof(T));
    const std::int64_t rows = x.numel() == 0 ? 0 : x.shape().rows(), width = x.shape().last();
    const T* in = data<T>(x);
    T* out = data<T>(y);
    const bool done = is_aligned(in, 16) && is_aligned(out, 16) && for_team_size<N>(width, [&]<int warps>() {
      launch<forward_rows<warps, T>>(blocks_for(rows, RowTeam<warps>::count), norm_threads, sizeof(TeamSums<1>), in, rows, static_cast<int>(width),
                                     out);
    });
    if (done) return;
    for_long_rows(width, [&]<int warps>() {
      launch<forward_long_rows<warps, T>>(blocks_for(rows, RowTeam<warps>::count), norm_threads, sizeof(TeamSums<1>), in, rows, width, out);
    });
  });
}

void backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  for_element_type("softmax_backward", y.dtype(), [&]<class T>() {
    constexpr int N = 16 / static_cast<int>(sizeof(T));
    const std::int64_t rows = y.numel() == 0 ? 0 : y.shape().rows(), width = y.shape().last();
    const T *kept = data<T>(y), *d = data<T>(dy);
    T* out = data<T>(dx);
    const bool done = is_aligned(kept, 16) && is_aligned(d, 16) && is_aligned(out, 16) && for_team_size<N>(width, [&]<int warps>() {
      launch<backward_rows<warps, T>>(blocks_for(rows, RowTeam<warps>::count), norm_threads, sizeof(TeamSums<1>), kept, d, rows,
                                      static_cast<int>(width), out);
    });
    if (done) return;
    for_long_rows(width, [&]<int warps>() {
      launch<backward_long_rows<warps, T>>(blocks_for(rows, RowTeam<warps>::count), norm_threads, sizeof(TeamSums<1>), kept, d, rows, width, out);
    });
  });
}

const bool added = add_kernel(softmax_forward, forward) && add_kernel(softmax_backward, backward);

}  // namespace
}  // namespace mblm::cuda
