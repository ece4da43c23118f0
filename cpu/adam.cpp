#include "ops/adam.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cpu/kernel.h"
#include "cpu/step_scalars.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

constexpr double clip_epsilon = 1e-6;  // keeps the clip factor finite for a zero gradient; the value of the Python package

// Sum of squares of one tile in float64. `residue` is 0 for finite elements; a non-finite element makes it NaN.
struct TileSums {
  double square = 0, residue = 0;
};

template <class T>
TileSums sum_tile(const T* x, std::int64_t begin, std::int64_t end) {
  double square = 0, residue = 0;
#pragma omp simd reduction(+ : square, residue)
  for (std::int64_t i = begin; i < end; ++i) {
    const double v = static_cast<double>(x[i]);
    square += v * v;
    residue += v - v;
  }
  return {square, residue};
}

// The last segment of x with a non-finite element; -1: none.
template <class T>
std::int64_t last_nonfinite_segment(const T* x, const Tensor& segments) {
  const std::int64_t* range = data<std::int64_t>(segments);
  for (std::int64_t s = segments.size(0) - 1; s >= 0; --s)
    if (sum_tile(x, range[2 * s], range[2 * s + 1]).residue != 0) return s;
  return -1;
}

void prepare_update(const Tensor& x, const Tensor& segments, const GradientNormOptions& options, Tensor& scalars) {
  for_real_type("gradient_norm", x.dtype(), [&]<class T>() {
    std::vector<TileSums> tiles(static_cast<std::size_t>(tile_count(x.numel(), elementwise_tile)));
    const T* px = data<T>(x);
    parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t tile) {
      tiles[static_cast<std::size_t>(tile)] = sum_tile(px, begin, end);
    });
    TileSums total;
    for (const TileSums& tile : tiles) {
      total.square += tile.square;
      total.residue += tile.residue;
    }
    StepScalars& s = step_scalars(scalars);
    s.gradient_norm = std::sqrt(total.square);
    s.clip_factor = options.clip > 0 ? std::min(1.0, options.clip / (s.gradient_norm + clip_epsilon)) : 1.0;
    const bool finite = total.residue == 0 && std::isfinite(s.loss_sum);
    s.applies = finite && s.stopped == 0 ? 1 : 0;
    if (finite || s.stopped != 0) return;
    if (options.stop_after_nonfinite) s.stopped = 1;
    s.nonfinite_step = s.steps + 1;
    s.nonfinite_loss = s.loss_sum;
    s.nonfinite_parameter = static_cast<double>(last_nonfinite_segment(px, segments));
  });
}

// Computed in float64 and rounded once.
template <class T>
scalar::AdamFactors<T> adam_factors(const AdamOptions& o, const StepScalars& s) {
  const double step = s.updates + 1;
  return {.clip = static_cast<T>(s.clip_factor),
          .beta1_rest = static_cast<T>(1 - o.beta1),
          .beta2 = static_cast<T>(o.beta2),
          .beta2_rest = static_cast<T>(1 - o.beta2),
          .step_size = static_cast<T>(s.learning_rate / (1 - std::pow(o.beta1, step))),
          .root_correction2 = static_cast<T>(std::sqrt(1 - std::pow(o.beta2, step))),
          .eps = static_cast<T>(o.eps),
          .decay = static_cast<T>(1 - s.learning_rate * o.weight_decay)};
}

// The end of the groups from `begin` on that `decays` treats alike, at most `end`. `begin` is the start of a group.
std::int64_t end_of_run(const std::uint8_t* decays, std::int64_t begin, std::int64_t end) {
  if (decays == nullptr) return end;
  std::int64_t at = begin + decay_group;
  while (at < end && decays[at / decay_group] == decays[begin / decay_group]) at += decay_group;
  return std::min(at, end);
}

static_assert(elementwise_tile % decay_group == 0);

// Memory bound: one pass over 28 bytes per element.
void update(Tensor& values, const Tensor& gradients, Tensor& first_moment, Tensor& second_moment, Tensor& bfloat16_copy, const Tensor& decays,
            const AdamOptions& options, const StepScalars& scalars) {
  for_real_type("adam_step", values.dtype(), [&]<class T>() {
    const scalar::AdamFactors<T> factors = adam_factors<T>(options, scalars);
    const T* g = data<T>(gradients);
    T *w = data<T>(values), *m = data<T>(first_moment), *v = data<T>(second_moment);
    bfloat16* copy = bfloat16_copy.defined() ? data<bfloat16>(bfloat16_copy) : nullptr;
    const std::uint8_t* groups = decays.defined() ? data<std::uint8_t>(decays) : nullptr;
    parallel_tiles(values.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t first = begin, last = 0; first < end; first = last) {
        last = end_of_run(groups, first, end);
        const T keep = groups != nullptr && groups[first / decay_group] != 0 ? factors.decay : T{1};
#pragma omp simd
        for (std::int64_t i = first; i < last; ++i) scalar::adam_update(factors, keep, g[i], w[i], m[i], v[i]);
      }
      if (copy == nullptr) return;
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) write(copy[i], w[i]);  // while the tile is in the L2 cache
    });
  });
}

void step(Tensor& values, const Tensor& gradients, Tensor& first_moment, Tensor& second_moment, Tensor& bfloat16_copy, const Tensor& decays,
          const AdamOptions& options, Tensor& scalars) {
  StepScalars& s = step_scalars(scalars);
  if (s.applies != 0) update(values, gradients, first_moment, second_moment, bfloat16_copy, decays, options, s);
  s.steps += 1;
  s.updates += s.applies;
  s.group_loss = std::exchange(s.loss_sum, 0.0);
  s.group_count = std::exchange(s.count, 0.0);
}

// One thread sums a segment, element by element.
void find_means(const Tensor& x, const Tensor& segments, Tensor& out) {
  for_real_type("segment_means", x.dtype(), [&]<class T>() {
    const T* px = data<T>(x);
    const std::int64_t* range = data<std::int64_t>(segments);
    double* means = data<double>(out);
    parallel_tiles(segments.size(0), 1, [&](std::int64_t s, std::int64_t, std::int64_t) {
      double sum = 0;
      for (std::int64_t i = range[2 * s]; i < range[2 * s + 1]; ++i) sum += static_cast<double>(px[i]);
      const std::int64_t size = range[2 * s + 1] - range[2 * s];
      means[s] = size == 0 ? 0.0 : sum / static_cast<double>(size);
    });
  });
}

const bool added = add_cpu_kernel(gradient_norm, prepare_update) && add_cpu_kernel(adam_step, step) && add_cpu_kernel(segment_means, find_means);

}  // namespace
}  // namespace mblm
