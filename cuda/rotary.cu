#include "ops/rotary.h"

#include "cuda/kernel.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

constexpr int threads = 256;
constexpr int heads_per_thread = 8;  // they share the angles of the thread
constexpr int heads_per_batch = 4;   // loads in flight per thread

// cos and sin of an angle. Subtracts the nearest multiple of pi/2 in float64, with pi/2 in two parts, so that the reduction adds no error
// to that of the angle. Then evaluates Taylor polynomials in float64, with errors below 2e-9 for |x| <= pi/4. Uses no table in memory: 8
// heads share about 20 float64 operations per pair, which the memory accesses hide.
__device__ __forceinline__ void cos_sin(double angle, float& cosine, float& sine) {
  const double quarters = rint(angle * 0.63661977236758134308);
  const double x = (angle - quarters * 1.57079632673412561417) - quarters * 6.07710050650619224932e-11, z = x * x;
  const double s = x * (1 + z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880)))));
  const double c = 1 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800)))));
  const int quadrant = static_cast<int>(static_cast<std::int64_t>(quarters) & 3);
  const float even = static_cast<float>(quadrant % 2 == 0 ? c : s), odd = static_cast<float>(quadrant % 2 == 0 ? s : c);
  cosine = quadrant == 1 || quadrant == 2 ? -even : even;
  sine = quadrant >= 2 ? -odd : odd;
}

struct Rows {
  std::int64_t rows, tokens, width;  // rows = B T
  int half;                          // pairs per head
  int rotated, heads;                // heads [rotated, heads) are copied; the last one may be cut by the width
  int groups;                        // of heads; group g has the heads g, g + groups, ...
  int rows_per_block;
  double sign;                       // -1: opposite angles
};

// A thread rotates P pairs of up to 8 heads of one token: 2 P neighbouring elements of each head (interleaved), or P elements of each
// half. Neighbouring threads have neighbouring pairs, then neighbouring heads. `packs`: the elements are accessed 16 bytes at a time.
// Memory bound: each element is read and written once. y may be x.
template <class T, int P, bool packs, bool interleaved>
__global__ void __launch_bounds__(threads) rotate(const T* x, const double* frequencies, const std::int64_t* positions, Rows p, T* y) {
  constexpr int run = interleaved ? 2 * P : P, runs = 2 * P / run;  // neighbouring elements, and how often
  const int chunks = p.half / P, per_row = chunks * p.groups, stride = 2 * p.half;
  for (int i = static_cast<int>(threadIdx.x); i < per_row * p.rows_per_block; i += threads) {
    const std::int64_t row = std::int64_t{blockIdx.x} * p.rows_per_block + i / per_row;
    if (row >= p.rows) return;
    const int chunk = i % chunks, group = i % per_row / chunks;
    float cosines[P] = {}, sines[P] = {};
    if (group < p.rotated) {
      const std::int64_t position = row % p.tokens + (positions == nullptr ? 0 : positions[row / p.tokens]);
#pragma unroll
      for (int j = 0; j < P; ++j) {
        cos_sin(static_cast<double>(position) * frequencies[chunk * P + j], cosines[j], sines[j]);
        sines[j] *= static_cast<float>(p.sign);
      }
    }
    for (int first = group; first < p.heads; first += heads_per_batch * p.groups) {
      Pack<T, run> elements[heads_per_batch][runs];
      const auto for_elements = [&](int b, auto&& move) {
        const int head = first + b * p.groups;
        if (head >= p.heads) return;
#pragma unroll
        for (int r = 0; r < runs; ++r) {
          const std::int64_t column = std::int64_t{head} * stride + chunk * run + r * p.half;
          if constexpr (packs) {
            if (column < p.width) move(elements[b][r], row * p.width + column);
          } else {
#pragma unroll
            for (int e = 0; e < run; ++e)
              if (column + e < p.width) move(elements[b][r].v[e], row * p.width + column + e);
          }
        }
      };
#pragma unroll
      for (int b = 0; b < heads_per_batch; ++b)
        for_elements(b, [&](auto& to, std::int64_t at) { to = *reinterpret_cast<const std::remove_reference_t<decltype(to)>*>(x + at); });
#pragma unroll
      for (int b = 0; b < heads_per_batch; ++b) {
        if (first + b * p.groups < p.rotated) {
#pragma unroll
          for (int j = 0; j < P; ++j) {
            T &left = elements[b][0].v[interleaved ? 2 * j : j], &right = elements[b][runs - 1].v[interleaved ? 2 * j + 1 : j];
            float a, c;
            scalar::rotate_pair(to_float(left), to_float(right), cosines[j], sines[j], a, c);
            left = from_float<T>(a);
            right = from_float<T>(c);
          }
        }
        for_elements(b, [&](const auto& from, std::int64_t at) { *reinterpret_cast<std::remove_cvref_t<decltype(from)>*>(y + at) = from; });
      }
    }
  }
}

template <class T, int P, bool packs, bool interleaved>
void start(const T* x, const double* frequencies, const std::int64_t* positions, Rows p, T* y) {
  p.rows_per_block = std::max(1, threads / (p.half / P * p.groups));
  launch<rotate<T, P, packs, interleaved>>(blocks_for(p.rows, p.rows_per_block), threads, 0, x, frequencies, positions, p, y);
}

template <class T, bool interleaved>
void start(const T* x, const double* frequencies, const std::int64_t* positions, const Rows& p, T* y) {
  constexpr int N = 16 / sizeof(T), P = interleaved ? N / 2 : N;
  if (p.half % P == 0 && p.width % N == 0 && is_aligned(x, 16) && is_aligned(y, 16))
    start<T, P, true, interleaved>(x, frequencies, positions, p, y);
  else
    start<T, 1, false, interleaved>(x, frequencies, positions, p, y);
}

void forward(const Tensor& x, const Tensor& inverse_frequencies, const Tensor& positions, const RotaryOptions& options, Tensor& y) {
  if (x.numel() == 0) return;
  for_element_type("rotary_forward", x.dtype(), [&]<class T>() {
    const T* from = data<T>(x);
    T* to = data<T>(y);
    Rows p{};
    p.rows = x.shape().rows();
    p.tokens = x.size(1);
    p.width = x.size(2);
    p.half = static_cast<int>(inverse_frequencies.numel());
    p.rotated = static_cast<int>(options.rotated_heads);
    p.heads = from == to ? p.rotated : static_cast<int>(divide_up(p.width, 2 * p.half));
    p.groups = static_cast<int>(divide_up(p.heads, heads_per_thread));
    p.sign = options.inverse ? -1 : 1;
    if (p.heads == 0) return;
    const double* frequencies = data<double>(inverse_frequencies);
    const std::int64_t* starts = positions.defined() ? data<std::int64_t>(positions) : nullptr;
    if (options.pairs == RotaryPairs::Interleaved)
      start<T, true>(from, frequencies, starts, p, to);
    else
      start<T, false>(from, frequencies, starts, p, to);
  });
}

const bool added = add_kernel(rotary_forward, forward);

}  // namespace
}  // namespace mblm::cuda
