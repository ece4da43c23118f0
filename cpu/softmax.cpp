#include "ops/softmax.h"

#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

// y (n) = softmax of x (n), n >= 1. Reads the row twice and its exponentials twice, all from the L1 cache for rows of usual width.
template <class T>
void softmax_row(const T* x, std::int64_t n, T* y) {
  const T largest = row_max(x, n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = scalar::exp(x[i] - largest);
  const T factor = 1 / row_sum(y, n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] *= factor;
}

void forward(const Tensor& x, Tensor& y) {
  if (x.numel() == 0) return;
  for_floating_type("softmax_forward", x.dtype(), [&]<class T>() {
    const std::int64_t width = x.shape().last();
    const T* in = data<T>(x);
    T* out = data<T>(y);
    parallel_tiles(x.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      RowBuffer<T> x_buffer(width), y_buffer(width);
      for (std::int64_t row = begin; row < end; ++row) {
        softmax_row(x_buffer.read_row(in + row * width), width, y_buffer.start_row(out + row * width));
        y_buffer.finish_row(out + row * width);
      }
    });
  });
}

// dx = y (dy - <dy, y>)
template <class T>
void gradient_row(const T* y, const T* dy, std::int64_t n, T* dx) {
  const T dot = row_dot(y, dy, n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) dx[i] = y[i] * (dy[i] - dot);
}

void backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  for_floating_type("softmax_backward", y.dtype(), [&]<class T>() {
    const std::int64_t width = y.shape().last();
    const T *kept = data<T>(y), *d = data<T>(dy);
    T* out = data<T>(dx);
    parallel_tiles(y.numel() == 0 ? 0 : y.shape().rows(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      RowBuffer<T> y_buffer(width), dy_buffer(width), dx_buffer(width);
      for (std::int64_t row = begin; row < end; ++row) {
        gradient_row(y_buffer.read_row(kept + row * width), dy_buffer.read_row(d + row * width), width, dx_buffer.start_row(out + row * width));
        dx_buffer.finish_row(out + row * width);
      }
    });
  });
}

const bool added = add_cpu_floating_kernel(softmax_forward, forward) && add_cpu_floating_kernel(softmax_backward, backward);

}  // namespace
}  // namespace mblm
