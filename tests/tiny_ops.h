// Minimal ops on float64 CPU tensors for tests of the engine.
#pragma once

#include <vector>

#include "engine/autograd.h"

namespace mblm::testing {

inline Tensor vector_of(const std::vector<double>& values) { return from_values<double>(Shape{static_cast<std::int64_t>(values.size())}, values); }
inline Tensor scalar_of(double value) { return from_values<double>(Shape{}, std::vector<double>{value}); }

// f(a[i], b[i]), without a history.
template <class F>
Tensor combine(const Tensor& a, const Tensor& b, F f) {
  Tensor y = empty_like(a);
  for (std::int64_t i = 0; i < a.numel(); ++i) y.host_data<double>()[i] = f(a.host_data<double>()[i], b.host_data<double>()[i]);
  return y;
}

// y = a + b. Returns the same gradient for both inputs.
inline Tensor tiny_add(const Tensor& a, const Tensor& b) {
  return record("tiny_add", {a, b}, combine(a, b, [](double u, double v) { return u + v; }), [](const Tensor& dy) -> std::vector<Tensor> {
    return {dy, dy};
  });
}

// y = a b, elementwise. Keeps a and b without their histories.
inline Tensor tiny_multiply(const Tensor& a, const Tensor& b) {
  const auto times = [](const Tensor& u, const Tensor& v) { return combine(u, v, [](double p, double q) { return p * q; }); };
  return record("tiny_multiply", {a, b}, times(a, b), [times, a = a.detach(), b = b.detach()](const Tensor& dy) -> std::vector<Tensor> {
    return {times(dy, b), times(dy, a)};
  });
}

// y = weight x, elementwise. The gradient of the weight goes to its slot.
inline Tensor tiny_weigh(const Tensor& x, const Tensor& weight) {
  const auto times = [](const Tensor& u, const Tensor& v) { return combine(u, v, [](double p, double q) { return p * q; }); };
  return record("tiny_weigh", {x, weight}, times(x, weight), [times, x = x.detach(), weight](const Tensor& dy) -> std::vector<Tensor> {
    GradSlot dweight = grad_slot(weight);
    const Tensor product = times(dy, x);
    double* sum = dweight.tensor.host_data<double>();
    for (std::int64_t i = 0; i < product.numel(); ++i) sum[i] = (dweight.beta == 0 ? 0.0 : dweight.beta * sum[i]) + product.host_data<double>()[i];
    return {times(dy, weight), dweight.done()};
  });
}

}  // namespace mblm::testing
