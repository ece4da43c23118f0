#include "ops/sum.h"

#include <bit>

#include "cuda/map_repeated.h"
#include "cuda/row_team.h"

namespace mblm::cuda {
namespace {

constexpr int sum_threads = 256;

// The terms of a sum: elements, or products of the elements of two arrays. read(): the N terms from i on.
template <class T>
struct Values {
  static constexpr int pack = 16 / static_cast<int>(sizeof(T));
  const T* x;
  bool aligned() const { return is_aligned(x, 16); }
  template <int N>
  __device__ __forceinline__ void read(float (&terms)[N], std::int64_t i) const {
    read_pack<N>(terms, x + i);
  }
};
template <class U, class V>
struct Products {
  static constexpr int pack = 16 / static_cast<int>(std::max(sizeof(U), sizeof(V)));
  const U* u;
  const V* v;
  bool aligned() const { return is_aligned(u, pack * sizeof(U)) && is_aligned(v, pack * sizeof(V)); }
  template <int N>
  __device__ __forceinline__ void read(float (&terms)[N], std::int64_t i) const {
    float others[N];
    read_pack<N>(terms, u + i);
    read_pack<N>(others, v + i);
#pragma unroll
    for (int j = 0; j < N; ++j) terms[j] *= others[j];
  }
};

// How the sums over R of terms (O, R, D) are split. A unit is the sum of one part of R for N neighbouring columns (of one column, in
// packs of N rows, for D = 1). `groups` threads share a unit: each adds every groups-th row, or pack of rows, of the part.
struct Plan {
  std::int64_t rows, inner;
  std::int64_t part_rows, parts;
  int groups;  // a power of two, at most sum_threads
};

template <int N>
struct Sums {
  float of_thread[N][sum_threads];
};

// A block has sum_threads / groups units. For D = 1 the threads of a unit are neighbours and read neighbouring rows; otherwise
// threads of neighbouring units are neighbours and read neighbouring columns: both are coalesced. The threads of a unit combine their sums in
// a tree. One addition per term; sums are float32. Writes y[unit] (D = 1) or N elements of y per unit.
template <bool columns, int N, class Terms, class Y>
__global__ void __launch_bounds__(sum_threads) sum_units(Terms terms, Plan plan, std::int64_t units, float factor, Y* y) {
  constexpr int width = columns ? N : 1;  // sums of a unit
  Sums<width>& shared = shared_memory<Sums<width>>();
  const int thread = static_cast<int>(threadIdx.x), slots = sum_threads / plan.groups;
  const int slot = columns ? thread % slots : thread / plan.groups, group = columns ? thread / slots : thread % plan.groups;
  const std::int64_t unit = std::int64_t{blockIdx.x} * slots + slot;
  float sum[width] = {};
  if (unit < units) {
    const std::int64_t packs = columns ? plan.inner / N : 1, index = unit / packs, outer = index / plan.parts;
    const std::int64_t first = index % plan.parts * plan.part_rows, count = std::min(plan.part_rows, plan.rows - first);
    const std::int64_t start = (outer * plan.rows + first) * plan.inner + unit % packs * N;
    const std::int64_t step = columns ? plan.inner : N, steps = columns ? count : count / N;
#pragma unroll 4
    for (std::int64_t i = group; i < steps; i += plan.groups) {
      float v[N];
      terms.template read<N>(v, start + i * step);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[columns ? j : 0] += v[j];
    }
  }
  const int apart = columns ? slots : 1;  // threads between neighbouring groups of a unit
  for (int half = plan.groups / 2; half > 0; half /= 2) {
    if (group >= half && group < 2 * half) {
#pragma unroll
      for (int j = 0; j < width; ++j) shared.of_thread[j][thread] = sum[j];
    }
    __syncthreads();
    if (group < half) {
#pragma unroll
      for (int j = 0; j < width; ++j) sum[j] += shared.of_thread[j][thread + half * apart];
    }
    // The next step writes places that this step does not read: groups below `half`.
  }
  if (unit >= units || group != 0) return;
#pragma unroll
  for (int j = 0; j < width; ++j) sum[j] *= factor;
  write_elements<width>(y + unit * width, sum);
}

// Steps of a thread that make its share of the tree negligible, and steps in a part: 128 KiB for 256 threads, so that the multiprocessors
// of a GPU have work at the usual sizes and partial sums are below 1 % of the data.
constexpr std::int64_t least_steps = 8, part_steps = 32;

// Depends on R, D and N only, not on O, so that a sum has the same bits in any batch.
template <bool columns, int N>
Plan plan_for(std::int64_t rows, std::int64_t inner) {
  const std::int64_t steps = columns ? rows : rows / N;
  // The columns of a row that a block reads at once: up to a warp of packs.
  const std::int64_t row_packs = columns ? std::min<std::int64_t>(warp_size, std::bit_ceil(static_cast<std::uint64_t>(inner / N))) : 1;
  const std::int64_t most = sum_threads / row_packs;
  // For D = 1, up to a warp reads one row at once, however short it is.
  const std::int64_t wanted = std::max(steps / least_steps, columns ? std::int64_t{1} : std::min<std::int64_t>(steps, warp_size));
  const auto groups = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(std::clamp<std::int64_t>(wanted, 1, most))));
  const std::int64_t most_steps = groups * part_steps, parts = std::max<std::int64_t>(1, divide_up(steps, most_steps));
  return {rows, inner, parts == 1 ? rows : most_steps * (columns ? 1 : N), parts, static_cast<int>(groups)};
}

template <class Terms, class Y>
void sum_terms(const Terms& terms, const Shape& shape, float factor, Y* y, Device device);

template <bool columns, int N, class Terms, class Y>
void start(const Terms& terms, const Shape& shape, float factor, Y* y, Device device) {
  const Plan plan = plan_for<columns, N>(shape[1], shape[2]);
  const std::int64_t units = shape[0] * plan.parts * (columns ? shape[2] / N : 1), slots = sum_threads / plan.groups;
  const std::size_t shared = sizeof(Sums<columns ? N : 1>);
  if (plan.parts == 1) {
    launch<sum_units<columns, N, Terms, Y>>(blocks_for(units, slots), sum_threads, shared, terms, plan, units, factor, y);
    return;
  }
  Tensor partials = empty(Shape{shape[0], plan.parts, shape[2]}, DType::Float32, device);
  float* sums = data<float>(partials);
  launch<sum_units<columns, N, Terms, float>>(blocks_for(units, slots), sum_threads, shared, terms, plan, units, 1.0f, sums);
  sum_terms(Values<float>{sums}, partials.shape(), factor, y, device);
}

// y (O, 1, D) = factor * the sums of terms (O, R, D) over R.
template <class Terms, class Y>
void sum_terms(const Terms& terms, const Shape& shape, float factor, Y* y, Device device) {
  constexpr int N = Terms::pack;
  if (shape[2] == 1) {
    if (terms.aligned() && shape[1] % N == 0)
      start<false, N>(terms, shape, factor, y, device);
    else
      start<false, 1>(terms, shape, factor, y, device);
  } else {
    if (terms.aligned() && shape[2] % N == 0 && is_aligned(y, 16))
      start<true, N>(terms, shape, factor, y, device);
    else
      start<true, 1>(terms, shape, factor, y, device);
  }
}

void forward(const Tensor& x, double factor, Tensor& y) {
  for_element_types("sum_forward", x.dtype(), y.dtype(), [&]<class X, class Y>() {
    sum_terms(Values<X>{data<X>(x)}, x.shape(), static_cast<float>(factor), data<Y>(y), x.device());
  });
}

struct Scaled {
  float factor;
  __device__ float operator()(float dy) const { return factor * dy; }
};

// One write per element.
void backward(const Tensor& dy, double factor, Tensor& dx) {
  for_element_type("sum_backward", dy.dtype(), [&]<class T>() {
    map_repeated(Scaled{static_cast<float>(factor)}, dx.shape(), data<T>(dx), data<T>(dy));
  });
}

void products(const Tensor& u, const Tensor& v, Tensor& y) {
  for_element_types("sum_products", u.dtype(), v.dtype(), [&]<class U, class V>() {
    sum_terms(Products<U, V>{data<U>(u), data<V>(v)}, u.shape(), 1.0f, data<float>(y), u.device());
  });
}

const bool added = add_kernel(sum_forward, forward) && add_kernel(sum_backward, backward) && add_kernel(sum_products, products);

}  // namespace
}  // namespace mblm::cuda
