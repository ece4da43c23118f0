#include "ops/rotary.h"

#include <cmath>
#include <utility>
#include <vector>

#include "cpu/kernel.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

constexpr std::int64_t block = 32;  // positions

// cos and sin of the angles of one pair, for each token of each sequence: a column (sequences, T) of a table (sequences, T, d/2). The
// angle of a position is the sum of two angles, of the first position of its block and of its offset in the block. Sine and cosine are
// evaluated for these two only; a complex product in float64 gives those of the sum. A position has the same bits in any sequence.
template <class T>
void fill_column(double frequency, double sign, const std::int64_t* positions, std::int64_t sequences, std::int64_t tokens, std::int64_t half, T* cosines,
                 T* sines) {
  double cosine[block], sine[block];
  bool known[block] = {};
  for (std::int64_t b = 0; b < sequences; ++b) {
    const std::int64_t start = positions == nullptr ? 0 : positions[b];
    std::int64_t first = -1;
    double c = 1, s = 0;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int64_t j = (start + t) % block;
      if (first != start + t - j) {
        first = start + t - j;
        const double angle = static_cast<double>(first) * frequency;
        c = std::cos(angle);
        s = sign * std::sin(angle);
      }
      if (!known[j]) {
        cosine[j] = std::cos(static_cast<double>(j) * frequency);
        sine[j] = sign * std::sin(static_cast<double>(j) * frequency);
        known[j] = true;
      }
      cosines[(b * tokens + t) * half] = static_cast<T>(c * cosine[j] - s * sine[j]);
      sines[(b * tokens + t) * half] = static_cast<T>(s * cosine[j] + c * sine[j]);
    }
  }
}

// The angles of one call: (2, rows, half), cosines and sines, with one row per token, or per token of each sequence.
template <class T>
struct AngleTable {
  const double* frequencies;
  std::int64_t half;
  double sign;
  const std::int64_t* starts;  // first position of each sequence, or null: 0 for all
  std::int64_t sequences, tokens;

  std::int64_t rows() const { return sequences * tokens; }
  void fill_columns(std::int64_t begin, std::int64_t end, T* table) const {
    for (std::int64_t i = begin; i < end; ++i)
      fill_column(frequencies[i], sign, starts, sequences, tokens, half, table + i, table + rows() * half + i);
  }
  // Differs for tables that differ.
  std::vector<double> key() const {
    std::vector<double> all(frequencies, frequencies + half);
    all.insert(all.end(), {sign, static_cast<double>(tokens)});
    if (starts != nullptr) all.insert(all.end(), starts, starts + sequences);
    return all;
  }
};

// The layers of a model rotate by the same angles one after the other. For a generated token a small table, kept from the layer before,
// costs less than its sines and cosines.
constexpr std::int64_t kept_angles = 4096;
template <class T>
const T* kept_table(const AngleTable<T>& wanted) {
  struct Kept {
    std::vector<double> key;
    std::vector<T> table;
  };
  thread_local Kept kept;
  std::vector<double> key = wanted.key();
  if (key != kept.key) {
    kept.table.resize(static_cast<std::size_t>(2 * wanted.rows() * wanted.half));
    wanted.fill_columns(0, wanted.half, kept.table.data());
    kept.key = std::move(key);
  }
  return kept.table.data();
}

template <class T>
void rotate(const T& a, const T& b, Real<T> cosine, Real<T> sine, T& rotated_a, T& rotated_b) {
  Real<T> wide_a, wide_b;
  scalar::rotate_pair(read(a), read(b), cosine, sine, wide_a, wide_b);
  write(rotated_a, wide_a);
  write(rotated_b, wide_b);
}

template <class T>
void rotate_interleaved(const T* x, const Real<T>* cosines, const Real<T>* sines, std::int64_t half, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) rotate(x[2 * i], x[2 * i + 1], cosines[i], sines[i], y[2 * i], y[2 * i + 1]);
}

template <class T>
void rotate_half_split(const T* x, const Real<T>* cosines, const Real<T>* sines, std::int64_t half, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) rotate(x[i], x[i + half], cosines[i], sines[i], y[i], y[i + half]);
}

// All heads use one table; all sequences use one table when `positions` is undefined. A tile is a block of tokens. Memory bound:
// 8 bytes and 3 operations per element.
void run(const Tensor& x, const Tensor& inverse_frequencies, const Tensor& positions, const RotaryOptions& options, Tensor& y) {
  for_floating_type("rotary_forward", x.dtype(), [&]<class T>() {
    using Angle = Real<T>;
    const std::int64_t tokens = x.size(1), width = x.size(2), half = inverse_frequencies.numel(), d = 2 * half, rotated = options.rotated_heads * d;
    const std::int64_t* starts = positions.defined() ? data<std::int64_t>(positions) : nullptr;
    const AngleTable<Angle> angles{data<double>(inverse_frequencies), half, options.inverse ? -1.0 : 1.0, starts, starts == nullptr ? 1 : x.size(0), tokens};
    const std::int64_t table_rows = angles.rows();
    const bool is_small = table_rows * half <= kept_angles;
    Tensor table = empty(Shape{2, is_small ? 0 : table_rows, half}, dtype_of<Angle>);
    if (!is_small)
      parallel_tiles(half, 4, [&](std::int64_t begin, std::int64_t end, std::int64_t) { angles.fill_columns(begin, end, data<Angle>(table)); });
    const Angle* cosines = is_small ? kept_table(angles) : data<Angle>(table);
    const Angle* sines = cosines + table_rows * half;
    const T* px = data<T>(x);
    T* py = data<T>(y);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* in = px + row * width;
        const Angle *c = cosines + row % table_rows * half, *s = sines + row % table_rows * half;
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

const bool added = add_cpu_floating_kernel(rotary_forward, run);

}  // namespace
}  // namespace mblm
