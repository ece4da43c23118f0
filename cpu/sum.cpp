#include "ops/sum.h"

#include "cpu/elementwise.h"
#include "cpu/lanes.h"

namespace mblm {
namespace {

// The terms of a sum: elements, or products of the elements of two arrays.
template <class T>
struct Elements {
  using Number = Real<T>;
  const T* x;
  Number at(std::int64_t i) const { return read(x[i]); }
  Lanes<Number> lanes(std::int64_t i) const { return load(x + i); }
  Lanes<Number> first_lanes(std::int64_t i, std::int64_t count) const { return load_first(x + i, count); }
};
template <class U, class V>
struct Products {
  using Number = Real<U>;
  const U* u;
  const V* v;
  Number at(std::int64_t i) const { return read(u[i]) * read(v[i]); }
  Lanes<Number> lanes(std::int64_t i) const { return load(u + i) * load(v + i); }
  Lanes<Number> first_lanes(std::int64_t i, std::int64_t count) const { return load_first(u + i, count) * load_first(v + i, count); }
};

// Terms begin .. begin + count, over vector lanes.
template <class Terms>
typename Terms::Number sum_run(const Terms& terms, std::int64_t begin, std::int64_t count) {
  using T = typename Terms::Number;
  Lanes<T> sum{};
  std::int64_t i = 0;
  for (; i + lane_count<T> <= count; i += lane_count<T>) sum += terms.lanes(begin + i);
  if (i < count) sum += terms.first_lanes(begin + i, count - i);
  return lane_sum<T>(sum);
}

// The sum of `rows` rows of `width` columns, `stride` terms apart.
template <class Terms>
void sum_columns(const Terms& terms, std::int64_t begin, std::int64_t rows, std::int64_t stride, std::int64_t width, typename Terms::Number* sums) {
  std::fill(sums, sums + width, typename Terms::Number(0));
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t from = begin + row * stride;
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) sums[i] += terms.at(from + i);
  }
}

constexpr std::int64_t block_columns = 1024;               // of a sum over rows: its sums stay in the L1 cache
constexpr std::int64_t part_elements = 65536, least_rows = 64;  // of a part of a long sum: partial sums are below 2 % of the data

// y (O, 1, D) = factor * the sums of terms (O, R, D) over R. A unit of work sums one part of R for a block of columns. Long sums
// have several parts, whose sums are added in order in a second call. The parts depend on R and D only, so that a sum has the same bits in
// any batch.
template <class Terms, class Y>
void sum_terms(const Terms& terms, const Shape& shape, Real<Y> factor, Y* y) {
  using T = typename Terms::Number;
  const std::int64_t outer = shape[0], rows = shape[1], inner = shape[2], blocks = tile_count(inner, block_columns);
  const std::int64_t width = std::clamp<std::int64_t>(inner, 1, block_columns), part_rows = std::max(least_rows, part_elements / width);
  const std::int64_t parts = std::max<std::int64_t>(1, tile_count(rows, part_rows));
  if (parts > 1) {
    Tensor partials = empty(Shape{outer * parts, 1, inner}, dtype_of<T>);
    T* sums = data<T>(partials);
    parallel_tiles(outer * parts * blocks, 1, [&](std::int64_t unit, std::int64_t, std::int64_t) {
      const std::int64_t index = unit / blocks, column = unit % blocks * block_columns, first = index % parts * part_rows;
      const std::int64_t count = std::min(part_rows, rows - first), begin = (index / parts * rows + first) * inner + column;
      if (inner == 1)
        sums[index] = sum_run(terms, begin, count);
      else
        sum_columns(terms, begin, count, inner, std::min(block_columns, inner - column), sums + index * inner + column);
    });
    sum_terms(Elements<T>{sums}, Shape{outer, parts, inner}, factor, y);
    return;
  }
  const std::int64_t units_per_tile = std::max<std::int64_t>(1, elementwise_tile / std::max(width, rows * width));
  parallel_tiles(outer * blocks, units_per_tile, [&](std::int64_t first_unit, std::int64_t last_unit, std::int64_t) {
    T sums[block_columns];
    for (std::int64_t unit = first_unit; unit < last_unit; ++unit) {
      const std::int64_t index = unit / blocks, column = unit % blocks * block_columns, count = std::min(block_columns, inner - column);
      const std::int64_t begin = index * rows * inner + column;
      Y* out = y + index * inner + column;
      if (inner == 1) {
        write(*out, factor * sum_run(terms, begin, rows));
        continue;
      }
      sum_columns(terms, begin, rows, inner, count, sums);
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) write(out[i], factor * sums[i]);
    }
  });
}

void forward(const Tensor& x, double factor, Tensor& y) {
  for_mixed_types("sum_forward", x.dtype(), y.dtype(), [&]<class X, class Y>() {
    sum_terms(Elements<X>{data<X>(x)}, x.shape(), static_cast<Real<Y>>(factor), data<Y>(y));
  });
}

void backward(const Tensor& dy, double factor, Tensor& dx) {
  for_floating_type("sum_backward", dy.dtype(), [&]<class T>() {
    const T* d = data<T>(dy);
    const auto f = static_cast<Real<T>>(factor);
    T* out = data<T>(dx);
    for_each_repeat(dx.shape(), [=](std::int64_t i, std::int64_t j) { write(out[i], f * read(d[j])); });
  });
}

void products(const Tensor& u, const Tensor& v, Tensor& y) {
  for_mixed_types("sum_products", u.dtype(), v.dtype(), [&]<class U, class V>() {
    using Y = Real<U>;
    sum_terms(Products<U, V>{data<U>(u), data<V>(v)}, u.shape(), Y(1), data<Y>(y));
  });
}

const bool added = add_cpu_floating_kernel(sum_forward, forward) && add_cpu_floating_kernel(sum_backward, backward) &&
                   add_cpu_floating_kernel(sum_products, products);

}  // namespace
}  // namespace mblm
