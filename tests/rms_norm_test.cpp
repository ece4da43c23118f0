// Rows of rms_norm that are shorter than eps, where finite differences would leave the clamped region.
#include "ops/rms_norm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/kernel_device.h"
#include "tests/op_case.h"

namespace mblm::testing {

TEST_CASE("rms_norm: the gradient of a clamped row is g dy / eps, beside a row that is not clamped") {
  const double eps = 0.5;
  const std::vector<double> x{0.1, -0.2, 0.3, 0, 3, -1, 2, 1}, g{2, -1, 0.5, 3}, dy{1, 2, -3, 4, -1, 2, 1, 3};
  for (const DType dtype : {DType::Float64, DType::Float32}) {
    const Device device = dtype == DType::Float64 ? Device{} : kernel_device();
    CAPTURE(dtype);
    const auto tensor = [&](const Shape& shape, const std::vector<double>& values) {
      HostArray host(shape);
      host.v = values;
      return from_host(host, dtype, device);
    };
    const std::vector<Tensor> leaves{tensor(Shape{2, 4}, x).as_leaf(), tensor(Shape{4}, g).as_leaf()};
    const Tensor y = rms_norm(leaves[0], leaves[1], RmsForm::ClampedL2, eps), weights = tensor(Shape{2, 4}, dy);
    const std::vector<Tensor> gradients = backward(std::span(&y, 1), std::span(&weights, 1), leaves);
    const std::vector<double> ours = to_host(y).v, dx = to_host(gradients[0]).v, dg = to_host(gradients[1]).v;
    double square = 0, dot = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      square += x[4 + i] * x[4 + i];
      dot += g[i] * dy[4 + i] * x[4 + i];
    }
    const double r = 1 / std::sqrt(square / 4), bound = dtype == DType::Float64 ? 1e-14 : 1e-6;
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(i);
      CHECK(std::abs(ours[i] - x[i] * g[i] / eps) <= bound);
      CHECK(std::abs(dx[i] - g[i] * dy[i] / eps) <= 24 * bound);
      CHECK(std::abs(dx[4 + i] - (r * g[i] * dy[4 + i] - x[4 + i] * r * r * r * dot / 4)) <= 10 * bound);
      CHECK(std::abs(dg[i] - (dy[i] * x[i] / eps + dy[4 + i] * x[4 + i] * r)) <= 10 * bound);
    }
  }
}

}  // namespace mblm::testing
