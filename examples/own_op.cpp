// An op outside the library: its formula, its kernels for the CPU, its backward pass, and a check of its gradient.
#include <cmath>
#include <iostream>
#include <random>

#include "engine/kernel_data.h"  // data<T>(): the elements of a tensor, for kernels
#include "mblm/mblm.h"

namespace {

using namespace mblm;

// The kernel slots of the op have one function per kind of device. The last argument is the output.
constinit Kernel<void(const Tensor& x, double frequency, Tensor& y)> sine_forward{"sine_forward"};
constinit Kernel<void(const Tensor& x, const Tensor& dy, double frequency, Tensor& dx)> sine_backward{"sine_backward"};

// y = sin(frequency x), element by element; float32 or float64 of any shape. Keeps x: dx = dy frequency cos(frequency x).
Tensor sine(const Tensor& x, double frequency) {
  require<DTypeError>(x.dtype() == DType::Float32 || x.dtype() == DType::Float64, "sine: expected float32 or float64, got ", x.dtype());
  Tensor y = empty_like(x);
  sine_forward(x, frequency, y);
  return record("sine", {x}, y, [x = x.detach(), frequency](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x);
    sine_backward(x, dy, frequency, dx);
    return {dx};
  });
}

// Runs f(begin, end) for tiles of n elements in parallel. The tiles depend on n only, so that the number of threads does not change results.
template <class F>
void for_tiles(std::int64_t n, F&& f) {
  parallel_tiles(n, 16384, [&](std::int64_t begin, std::int64_t end, std::int64_t) { f(begin, end); });
}

void forward(const Tensor& x, double frequency, Tensor& y) {
  const auto run = [&]<class T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    for_tiles(x.numel(), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) out[i] = std::sin(static_cast<T>(frequency) * in[i]);
    });
  };
  x.dtype() == DType::Float32 ? run.operator()<float>() : run.operator()<double>();
}

void backward_of_sine(const Tensor& x, const Tensor& dy, double frequency, Tensor& dx) {
  const auto run = [&]<class T>() {
    const T *in = data<T>(x), *d = data<T>(dy);
    T* out = data<T>(dx);
    for_tiles(x.numel(), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) out[i] = d[i] * static_cast<T>(frequency) * std::cos(static_cast<T>(frequency) * in[i]);
    });
  };
  x.dtype() == DType::Float32 ? run.operator()<float>() : run.operator()<double>();
}

// Fills the slots before main. A slot without a kernel for a device reports `sine_forward: no cuda kernel`.
const bool added = sine_forward.add(DeviceKind::Cpu, {DType::Float32, DType::Float64}, forward) &&
                   sine_backward.add(DeviceKind::Cpu, {DType::Float32, DType::Float64}, backward_of_sine);

// The largest difference between the gradient of <weights, sine(x)> and its central differences, in float64. Random weights: a plain sum
// would hide mistakes that cancel.
double gradient_error(const Shape& shape, double frequency) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<std::size_t>(shape.numel())), weights(values.size());
  for (double& v : values) v = normal(random);
  for (double& w : weights) w = normal(random);
  const Tensor w = from_values(shape, weights);
  const auto value = [&](const Tensor& x) { return sum(multiply(sine(x, frequency), w)); };

  const Tensor x = from_values(shape, values).as_leaf();
  const std::vector<double> gradient = backward(value(x), std::span(&x, 1))[0].to_vector<double>();
  const NoGradScope no_grad;
  double largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double before = values[i], step = 1e-5;
    values[i] = before + step;
    const double above = value(from_values(shape, values)).item();
    values[i] = before - step;
    const double below = value(from_values(shape, values)).item();
    values[i] = before;
    largest = std::max(largest, std::abs(gradient[i] - (above - below) / (2 * step)));
  }
  return largest;
}

}  // namespace

int main() {
  const double error = gradient_error(Shape{3, 17}, 1.5);
  std::cout << "gradient differs from central differences by at most " << error << '\n';

  // The op works with the other ops: the gradient of mean((sin(2 x) - t)^2) moves x towards a solution of sin(2 x) = t.
  Tensor x = from_values<float>(Shape{3}, {0.1f, 0.2f, 0.3f});
  const Tensor t = from_values<float>(Shape{3}, {0.9f, 0.0f, -0.5f});
  for (int step = 0; step < 200; ++step) {
    const Tensor leaf = x.as_leaf(), distance = subtract(sine(leaf, 2), t);
    const Tensor dx = backward(mean(multiply(distance, distance)), std::span(&leaf, 1))[0];
    x = subtract(x, scale(dx, 0.3));
  }
  const NoGradScope no_grad;
  const std::vector<float> y = sine(x, 2).to_vector<float>();
  std::cout << "sin(2 x) is " << y[0] << ' ' << y[1] << ' ' << y[2] << ", expected 0.9 0 -0.5\n";

  try {
    sine(zeros(Shape{2}, DType::Int64), 1);
  } catch (const Error& wrong) {
    std::cout << wrong.what() << '\n';
  }
  return error < 1e-8 ? 0 : 1;
}
