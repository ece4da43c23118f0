#include "ops/adam.h"

#include <algorithm>
#include <utility>

#include "cuda/block_sum.h"
#include "cuda/step_scalars.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

constexpr int threads = 256, pack = 4;  // 16 bytes of float32 per access

// ---- gradient_norm

constexpr double clip_epsilon = 1e-6;  // keeps the clip factor finite for a zero gradient; the value of the Python package
constexpr int norm_packs = 16;         // packs of a thread: one partial sum per 64 KiB
constexpr int norm_tile = threads * norm_packs * pack;

struct NormSums {
  WarpSums<double> square;
  WarpSums<int> nonfinite;
};

// x - x is 0 for finite x and NaN otherwise.
template <class T>
__device__ __forceinline__ bool is_finite(T x) {
  return x - x == 0;
}

// A block adds the squares of one tile of x in float64 and counts its non-finite elements. Reads 4 bytes per element. Memory bound.
template <int N>
__global__ void __launch_bounds__(threads) sum_squares(const float* x, std::int64_t n, double* squares, int* nonfinite) {
  NormSums& shared = shared_memory<NormSums>();
  const std::int64_t first = std::int64_t{blockIdx.x} * norm_tile + threadIdx.x * N;
  double square = 0;
  int bad = 0;
#pragma unroll 4
  for (int i = 0; i < norm_tile / (threads * N); ++i) {
    const std::int64_t at = first + std::int64_t{i} * threads * N;
    float v[N] = {};
    if (at + N <= n) {
      read_pack<N>(v, x + at);
    } else {
      for (int k = 0; k < N; ++k)
        if (at + k < n) v[k] = x[at + k];
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const double wide = static_cast<double>(v[k]);
      square += wide * wide;
      bad += is_finite(v[k]) ? 0 : 1;
    }
  }
  const double block_square = block_sum(square, shared.square);
  const int block_bad = block_sum(bad, shared.nonfinite);
  if (threadIdx.x != 0) return;
  squares[blockIdx.x] = block_square;
  nonfinite[blockIdx.x] = block_bad;
}

// Block s counts the non-finite elements of segment s: whole tiles by their counts, elements of the tiles at both ends only if these
// tiles have any. So a finite gradient is not read again.
__global__ void __launch_bounds__(threads) check_segments(const float* x, const std::int64_t* segments, const int* nonfinite, int* bad_segments) {
  WarpSums<int>& shared = shared_memory<WarpSums<int>>();
  const std::int64_t begin = segments[2 * std::int64_t{blockIdx.x}], end = segments[2 * std::int64_t{blockIdx.x} + 1];
  int bad = 0;
  if (begin < end) {
    const std::int64_t first = begin / norm_tile, last = (end - 1) / norm_tile;
    for (std::int64_t t = first + threadIdx.x; t <= last; t += threads)
      if (t * norm_tile >= begin && (t + 1) * norm_tile <= end) bad += nonfinite[t];
    for (const std::int64_t t : {first, last}) {
      if ((t * norm_tile >= begin && (t + 1) * norm_tile <= end) || nonfinite[t] == 0) continue;
      const std::int64_t tile_end = (t + 1) * norm_tile < end ? (t + 1) * norm_tile : end;
      for (std::int64_t i = (t * norm_tile > begin ? t * norm_tile : begin) + threadIdx.x; i < tile_end; i += threads) bad += is_finite(x[i]) ? 0 : 1;
    }
  }
  const int total = block_sum(bad, shared);
  if (threadIdx.x == 0) bad_segments[blockIdx.x] = total;
}

constexpr int finish_threads = 1024;
struct FinishSums {
  WarpSums<double> square;
  WarpSums<int> nonfinite;
  int last_segment[largest_block_warps];
};

// One block adds the partial sums, each thread every 1024th in order, and makes the scalars of the update.
__global__ void __launch_bounds__(finish_threads)
    prepare_scalars(const double* squares, const int* nonfinite, std::int64_t tiles, const int* bad_segments, std::int64_t segments,
                    GradientNormOptions options, StepScalars* scalars) {
  FinishSums& shared = shared_memory<FinishSums>();
  double square = 0;
  int bad = 0, last = -1;
  for (std::int64_t t = threadIdx.x; t < tiles; t += finish_threads) {
    square += squares[t];
    bad += nonfinite[t] != 0 ? 1 : 0;
  }
  for (std::int64_t s = threadIdx.x; s < segments; s += finish_threads)
    if (bad_segments[s] != 0) last = static_cast<int>(s);
  last = warp_max(last);
  if (threadIdx.x % warp_size == 0) shared.last_segment[threadIdx.x / warp_size] = last;
  const double total = block_sum(square, shared.square);
  const int total_bad = block_sum(bad, shared.nonfinite);
  if (threadIdx.x != 0) return;
  StepScalars& s = *scalars;
  s.gradient_norm = sqrt(total);
  const double factor = options.clip / (s.gradient_norm + clip_epsilon);
  s.clip_factor = options.clip > 0 ? (factor < 1 ? factor : 1.0) : 1.0;
  const bool finite = total_bad == 0 && is_finite(s.loss_sum), stopped = s.stopped != 0;
  s.applies = finite && !stopped ? 1 : 0;
  if (finite || stopped) return;
  for (int warp = 0; warp < finish_threads / warp_size; ++warp) last = std::max(last, shared.last_segment[warp]);
  if (options.stop_after_nonfinite) s.stopped = 1;
  s.nonfinite_step = s.steps + 1;
  s.nonfinite_loss = s.loss_sum;
  s.nonfinite_parameter = last;
}

void prepare_update(const Tensor& x, const Tensor& segments, const GradientNormOptions& options, Tensor& scalars) {
  const unsigned tiles = blocks_for(x.numel(), norm_tile);
  const std::int64_t ranges = segments.size(0);
  Tensor squares = empty(Shape{tiles}, DType::Float64, x.device()), nonfinite = empty(Shape{tiles}, DType::Int32, x.device());
  Tensor bad_segments = empty(Shape{ranges}, DType::Int32, x.device());
  const auto sum = [&]<int N>() {
    launch<sum_squares<N>>(tiles, threads, sizeof(NormSums), data<float>(x), x.numel(), data<double>(squares), data<std::int32_t>(nonfinite));
  };
  if (is_aligned(raw(x), pack * sizeof(float)))
    sum.template operator()<pack>();
  else
    sum.template operator()<1>();
  launch<check_segments>(blocks_for(ranges, 1), threads, sizeof(WarpSums<int>), data<float>(x), data<std::int64_t>(segments),
                         data<std::int32_t>(nonfinite), data<std::int32_t>(bad_segments));
  launch<prepare_scalars>(1, finish_threads, sizeof(FinishSums), data<double>(squares), data<std::int32_t>(nonfinite), std::int64_t{tiles},
                          data<std::int32_t>(bad_segments), ranges, options, step_scalars(scalars));
}

// ---- adam_step

struct Factors {
  scalar::AdamFactors<float> adam;
  int applies;
};

// One thread computes the factors of the sweep in float64 and closes the group. The sweep reads the factors only, so that their bits
// do not depend on when the group is closed.
__global__ void __launch_bounds__(1) make_factors(AdamOptions options, StepScalars* scalars, Factors* factors) {
  StepScalars& s = *scalars;
  const double step = s.updates + 1;
  factors->adam = {.clip = static_cast<float>(s.clip_factor),
                   .beta1_rest = static_cast<float>(1 - options.beta1),
                   .beta2 = static_cast<float>(options.beta2),
                   .beta2_rest = static_cast<float>(1 - options.beta2),
                   .step_size = static_cast<float>(s.learning_rate / (1 - pow(options.beta1, step))),
                   .root_correction2 = static_cast<float>(sqrt(1 - pow(options.beta2, step))),
                   .eps = static_cast<float>(options.eps),
                   .decay = static_cast<float>(1 - s.learning_rate * options.weight_decay)};
  factors->applies = s.applies != 0 ? 1 : 0;
  s.steps += 1;
  s.updates += s.applies;
  s.group_loss = s.loss_sum;
  s.group_count = s.count;
  s.loss_sum = 0;
  s.count = 0;
}

static_assert(decay_group % pack == 0);

// A thread updates N neighbouring elements, which belong to one decay group: reads 16 bytes and writes 14 per element. Memory bound.
template <int N>
__global__ void __launch_bounds__(threads) update(const Factors* factors, std::int64_t n, const float* gradients, float* values, float* first_moment,
                                                  float* second_moment, bfloat16* copy, const std::uint8_t* decays) {
  const std::int64_t begin = (std::int64_t{blockIdx.x} * threads + threadIdx.x) * N;
  if (begin >= n || factors->applies == 0) return;
  const scalar::AdamFactors<float> adam = factors->adam;
  const float keep = decays != nullptr && decays[begin / decay_group] != 0 ? adam.decay : 1.0f;
  if (begin + N > n) {
    for (std::int64_t i = begin; i < n; ++i) {
      scalar::adam_update(adam, keep, gradients[i], values[i], first_moment[i], second_moment[i]);
      if (copy != nullptr) copy[i] = from_float<bfloat16>(values[i]);
    }
    return;
  }
  float g[N], w[N], m[N], v[N];
  read_pack<N>(g, gradients + begin);
  read_pack<N>(w, values + begin);
  read_pack<N>(m, first_moment + begin);
  read_pack<N>(v, second_moment + begin);
#pragma unroll
  for (int k = 0; k < N; ++k) scalar::adam_update(adam, keep, g[k], w[k], m[k], v[k]);
  write_pack<N>(values + begin, w);
  write_pack<N>(first_moment + begin, m);
  write_pack<N>(second_moment + begin, v);
  if (copy != nullptr) write_pack<N>(copy + begin, w);
}

void step(Tensor& values, const Tensor& gradients, Tensor& first_moment, Tensor& second_moment, Tensor& bfloat16_copy, const Tensor& decays,
          const AdamOptions& options, Tensor& scalars) {
  Tensor factors = empty(Shape{static_cast<std::int64_t>(sizeof(Factors))}, DType::UInt8, values.device());
  auto* made = reinterpret_cast<Factors*>(data<std::uint8_t>(factors));
  launch<make_factors>(1, 1, 0, options, step_scalars(scalars), made);
  const std::int64_t n = values.numel();
  bfloat16* copy = bfloat16_copy.defined() ? data<bfloat16>(bfloat16_copy) : nullptr;
  const std::uint8_t* groups = decays.defined() ? data<std::uint8_t>(decays) : nullptr;
  bool aligned = is_aligned(copy, pack * sizeof(bfloat16));
  for (const Tensor* x : {&std::as_const(values), &gradients, &std::as_const(first_moment), &std::as_const(second_moment)})
    aligned = aligned && is_aligned(raw(*x), pack * sizeof(float));
  const auto sweep = [&]<int N>() {
    launch<update<N>>(blocks_for(n, std::int64_t{N} * threads), threads, 0, made, n, data<float>(gradients), data<float>(values),
                      data<float>(first_moment), data<float>(second_moment), copy, groups);
  };
  if (aligned)
    sweep.template operator()<pack>();
  else
    sweep.template operator()<1>();
}

// ---- segment_means

constexpr int parts = 64;  // blocks per segment: one segment may hold a tenth of all parameters

// Block (p, s) adds part p of segment s in float64: 4 bytes per element. sums (S, parts).
__global__ void __launch_bounds__(threads) sum_parts(const float* x, const std::int64_t* segments, double* sums) {
  WarpSums<double>& shared = shared_memory<WarpSums<double>>();
  const std::int64_t first = segments[2 * std::int64_t{blockIdx.y}], size = segments[2 * std::int64_t{blockIdx.y} + 1] - first;
  const std::int64_t length = (size + parts - 1) / parts, begin = length * blockIdx.x, end = std::min(begin + length, size);
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = begin + threadIdx.x; i < end; i += threads) sum += static_cast<double>(x[first + i]);
  const double total = block_sum(sum, shared);
  if (threadIdx.x == 0) sums[std::int64_t{blockIdx.y} * parts + blockIdx.x] = total;
}

// A warp adds the parts of one segment.
__global__ void __launch_bounds__(threads) finish_means(const double* sums, const std::int64_t* segments, std::int64_t count, double* means) {
  const std::int64_t s = std::int64_t{blockIdx.x} * (threads / warp_size) + threadIdx.x / warp_size;
  if (s >= count) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  double sum = 0;
  for (int part = lane; part < parts; part += warp_size) sum += sums[s * parts + part];
  sum = warp_sum(sum);
  const std::int64_t size = segments[2 * s + 1] - segments[2 * s];
  if (lane == 0) means[s] = size == 0 ? 0.0 : sum / static_cast<double>(size);
}

void find_means(const Tensor& x, const Tensor& segments, Tensor& out) {
  const std::int64_t count = segments.size(0);
  constexpr std::int64_t largest_y = 65535;
  require<ShapeError>(count <= largest_y, "segment_means: expected at most ", largest_y, " segments on a GPU, got ", count);
  Tensor sums = empty(Shape{count, parts}, DType::Float64, x.device());
  launch<sum_parts>(dim3(parts, static_cast<unsigned>(count)), threads, sizeof(WarpSums<double>), data<float>(x), data<std::int64_t>(segments),
                    data<double>(sums));
  launch<finish_means>(blocks_for(count, threads / warp_size), threads, 0, data<double>(std::as_const(sums)), data<std::int64_t>(segments), count,
                       data<double>(out));
}

const bool added = add_kernel(gradient_norm, prepare_update, {DType::Float32}) && add_kernel(adam_step, step, {DType::Float32}) &&
                   add_kernel(segment_means, find_means, {DType::Float32});

}  // namespace
}  // namespace mblm::cuda
