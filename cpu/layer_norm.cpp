#include "ops/layer_norm.h"

#include <cmath>

#include "cpu/kernel.h"
#include "cpu/lanes.h"

namespace mblm {
namespace {

// sum_i (x_i - mean)^2
template <class T>
T squared_distance(const T* x, T mean, std::int64_t n) {
  Lanes<T> sum{};
  std::int64_t i = 0;
  for (; i + lane_count<T> <= n; i += lane_count<T>) {
    const Lanes<T> distance = load(x + i) - mean;
    sum += distance * distance;
  }
  T rest = 0;
  for (; i < n; ++i) rest += (x[i] - mean) * (x[i] - mean);
  return lane_sum<T>(sum) + rest;
}

// A row at a time, read three times while it is in the L1 cache: first for the mean, then for the squared distances from it, which
// do not cancel as sum(x^2) - D mean^2 does, then for y. Sums are float32 (float64 for float64): D additions, spread over vector
// lanes.
void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, Tensor& y, Tensor& statistics) {
  for_mixed_types("layer_norm_forward", x.dtype(), y.dtype(), [&]<class X, class Y>() {
    using T = Real<X>;
    const std::int64_t width = x.shape().last();
    const X* px = data<X>(x);
    Y* py = data<Y>(y);
    const T *g = data<T>(weight), *b = data<T>(bias);
    T* s = data<T>(statistics);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      RowBuffer<X> x_buffer(width);
      RowBuffer<Y> y_buffer(width);
      for (std::int64_t row = begin; row < end; ++row) {
        const T* in = x_buffer.read_row(px + row * width);
        T* out = y_buffer.start_row(py + row * width);
        const T mean = row_sum(in, width) / static_cast<T>(width);
        const T r = 1 / std::sqrt(squared_distance(in, mean, width) / static_cast<T>(width) + static_cast<T>(eps));
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) out[i] = (in[i] - mean) * r * g[i] + b[i];
        y_buffer.finish_row(py + row * width);
        s[2 * row] = mean;
        s[2 * row + 1] = r;
      }
    });
  });
}

// With z = (x - mean) r and h = g dy: dx = r (h - mean(h) - z mean(h z)). dweight and dbias have partial sums per tile of rows.
template <class T>
void backward_row(const T* in, const T* g, T mean, T r, const T* d, std::int64_t width, T* out, T* dg, T* db) {
  T sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (std::int64_t i = 0; i < width; ++i) {
    const T h = g[i] * d[i];
    sum += h;
    dot += h * (in[i] - mean) * r;
  }
  const T a = sum / static_cast<T>(width), c = dot / static_cast<T>(width);
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const T z = (in[i] - mean) * r;
    out[i] = r * (g[i] * d[i] - a - z * c);
    dg[i] += d[i] * z;
    db[i] += d[i];
  }
}

void backward(const Tensor& x, const Tensor& weight, const Tensor& statistics, const Tensor& dy, Tensor& dx, Tensor& dweight, float beta_weight,
              Tensor& dbias, float beta_bias) {
  for_mixed_types("layer_norm_backward", x.dtype(), dy.dtype(), [&]<class X, class Y>() {
    using T = Real<X>;
    const std::int64_t rows = x.shape().rows(), width = x.shape().last(), tile_rows = rows_per_partial(rows, width);
    Tensor weight_partials = zeros(Shape{tile_count(rows, tile_rows), width}, weight.dtype()), bias_partials = zeros_like(weight_partials);
    const X* px = data<X>(x);
    const Y* pdy = data<Y>(dy);
    X* pdx = data<X>(dx);
    const T *g = data<T>(weight), *s = data<T>(statistics);
    T *dg = data<T>(weight_partials), *db = data<T>(bias_partials);
    parallel_tiles(rows, tile_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t tile) {
      RowBuffer<X> x_buffer(width), dx_buffer(width);
      RowBuffer<Y> dy_buffer(width);
      for (std::int64_t row = begin; row < end; ++row) {
        backward_row(x_buffer.read_row(px + row * width), g, s[2 * row], s[2 * row + 1], dy_buffer.read_row(pdy + row * width), width,
                     dx_buffer.start_row(pdx + row * width), dg + tile * width, db + tile * width);
        dx_buffer.finish_row(pdx + row * width);
      }
    });
    add_partials(weight_partials, data<T>(dweight), beta_weight);
    add_partials(bias_partials, data<T>(dbias), beta_bias);
  });
}

const bool added =
    layer_norm_forward.add(DeviceKind::Cpu, floating_types, forward) && layer_norm_backward.add(DeviceKind::Cpu, floating_types, backward);

}  // namespace
}  // namespace mblm
