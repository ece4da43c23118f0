#include "ops/adam.h"

#include <cmath>

#include "cpu/kernel.h"

namespace mblm {
namespace {

// Sum of squares of one tile in float64. Any element that is not finite makes `residue` NaN, any other leaves it zero.
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

void norm_of(const Tensor& x, Tensor& norm, Tensor& finite) {
  for_real_type("global_norm", x.dtype(), [&]<class T>() {
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
    *data<double>(norm) = std::sqrt(total.square);
    *data<std::uint8_t>(finite) = total.residue == 0 ? 1 : 0;
  });
}

// The scalars of one step, in float64 until here.
template <class T>
struct Factors {
  T clip, beta1_rest, beta2, beta2_rest, step_size, root_correction2, eps;

  Factors(const AdamOptions& o, double norm) {
    const double steps = static_cast<double>(o.step);
    clip = static_cast<T>(o.clip > 0 ? std::min(1.0, o.clip / (norm + 1e-6)) : 1.0);
    beta1_rest = static_cast<T>(1 - o.beta1);
    beta2 = static_cast<T>(o.beta2);
    beta2_rest = static_cast<T>(1 - o.beta2);
    step_size = static_cast<T>(o.learning_rate / (1 - std::pow(o.beta1, steps)));
    root_correction2 = static_cast<T>(std::sqrt(1 - std::pow(o.beta2, steps)));
    eps = static_cast<T>(o.eps);
  }
};

// m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2; value -= step_size m / (sqrt(v) / root_correction2 + eps).
// One pass over 28 bytes per element: memory bound.
template <class T>
void step_tile(const Factors<T>& f, std::int64_t begin, std::int64_t end, const T* gradients, T* values, T* first, T* second) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const T g = gradients[i] * f.clip;
    const T m = first[i] + f.beta1_rest * (g - first[i]);
    const T v = f.beta2 * second[i] + f.beta2_rest * g * g;
    first[i] = m;
    second[i] = v;
    values[i] -= f.step_size * m / (std::sqrt(v) / f.root_correction2 + f.eps);
  }
}

void step(Tensor& values, const Tensor& gradients, Tensor& first_moment, Tensor& second_moment, Tensor& bfloat16_copy, const Tensor& norm,
          const Tensor& finite, const AdamOptions& options) {
  if (*data<std::uint8_t>(finite) == 0) return;
  for_real_type("adam_step", values.dtype(), [&]<class T>() {
    const Factors<T> factors(options, *data<double>(norm));
    const T* g = data<T>(gradients);
    T *w = data<T>(values), *m = data<T>(first_moment), *v = data<T>(second_moment);
    bfloat16* copy = bfloat16_copy.defined() ? data<bfloat16>(bfloat16_copy) : nullptr;
    parallel_tiles(values.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      step_tile(factors, begin, end, g, w, m, v);
      if (copy == nullptr) return;  // else convert while the tile is in the L2 cache, as bits: struct assignments do not vectorise
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) copy[i].bits = bfloat16(static_cast<float>(w[i])).bits;
    });
  });
}

const bool added = add_cpu_kernel(global_norm, norm_of) && add_cpu_kernel(adam_step, step);

}  // namespace
}  // namespace mblm
