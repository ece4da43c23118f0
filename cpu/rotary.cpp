#include "ops/rotary.h"

#include <cmath>

#include "cpu/kernel.h"

namespace mblm {
namespace {

constexpr std::int64_t block = 32;  // positions

// cos and sin of all angles, (T, d/2) each. The angle of position p + j is the sum of two, those of a block's first position p
// and of j < 32: sine and cosine are called for these only, and a complex product in float64 gives the others.
template <class T>
void fill_table(const RotaryOptions& options, std::int64_t tokens, T* cosines, T* sines) {
  const std::int64_t half = options.head_dim / 2;
  const double sign = options.inverse ? -1.0 : 1.0;
  parallel_tiles(half, 4, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double frequency = std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(options.head_dim));
      double cosine[block], sine[block];
      for (std::int64_t j = 0; j < std::min(block, tokens); ++j) {
        cosine[j] = std::cos(static_cast<double>(j) * frequency);
        sine[j] = sign * std::sin(static_cast<double>(j) * frequency);
      }
      for (std::int64_t first = 0; first < tokens; first += block) {
        const double angle = static_cast<double>(options.first_position + first) * frequency, c = std::cos(angle), s = sign * std::sin(angle);
        for (std::int64_t j = 0; j < std::min(block, tokens - first); ++j) {
          cosines[(first + j) * half + i] = static_cast<T>(c * cosine[j] - s * sine[j]);
          sines[(first + j) * half + i] = static_cast<T>(s * cosine[j] + c * sine[j]);
        }
      }
    }
  });
}

template <class T>
void rotate_interleaved(const T* x, const T* cosines, const T* sines, std::int64_t half, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const T a = x[2 * i], b = x[2 * i + 1];
    y[2 * i] = a * cosines[i] - b * sines[i];
    y[2 * i + 1] = b * cosines[i] + a * sines[i];
  }
}

template <class T>
void rotate_half_split(const T* x, const T* cosines, const T* sines, std::int64_t half, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const T a = x[i], b = x[i + half];
    y[i] = a * cosines[i] - b * sines[i];
    y[i + half] = b * cosines[i] + a * sines[i];
  }
}

// One table for all sequences and heads; rows of tokens. Memory bound: 8 bytes and 3 operations per element.
void run(const Tensor& x, const RotaryOptions& options, Tensor& y) {
  for_real_type("rotary", x.dtype(), [&]<class T>() {
    const std::int64_t tokens = x.size(1), width = x.size(2), d = options.head_dim, half = d / 2, rotated = options.rotated_heads * d;
    Tensor table = empty(Shape{2, tokens, half}, x.dtype());
    T *cosines = data<T>(table), *sines = cosines + tokens * half;
    fill_table(options, tokens, cosines, sines);
    const T* px = data<T>(x);
    T* py = data<T>(y);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T *in = px + row * width, *c = cosines + row % tokens * half, *s = sines + row % tokens * half;
        T* out = py + row * width;
        for (std::int64_t at = 0; at < rotated; at += d) {
          if (options.pairs == RotaryPairs::Interleaved)
            rotate_interleaved(in + at, c, s, half, out + at);
          else
            rotate_half_split(in + at, c, s, half, out + at);
        }
        std::copy_n(in + rotated, width - rotated, out + rotated);
      }
    });
  });
}

const bool added = add_cpu_kernel(rotary_kernel, run);

}  // namespace
}  // namespace mblm
