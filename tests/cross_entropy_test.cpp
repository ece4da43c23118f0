#include "ops/cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/kernel_device.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

HostArray gradient_of(const HostArray& logits, const std::vector<std::int64_t>& targets, DType dtype, Device device) {
  const Tensor x = from_host(logits, dtype, device).as_leaf();
  const Tensor ids = from_values<std::int64_t>(Shape{std::ssize(targets)}, targets, device);
  return to_host(backward(cross_entropy(x, ids, -100).loss, std::span(&x, 1)).at(0));
}

}  // namespace

TEST_CASE("cross_entropy: float32 gradients of logits far from zero keep their digits") {
  HostArray logits(Shape{16, 33});
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  for (double& v : logits.v) v = static_cast<float>(5000 + normal(random));
  const std::vector<std::int64_t> targets(16, 7);
  CHECK(relative_error(gradient_of(logits, targets, DType::Float32, kernel_device()), gradient_of(logits, targets, DType::Float64, Device{})) < 1e-6);
}

TEST_CASE("cross_entropy: logits of -inf have zero gradients, NaN propagates to the loss") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const Device device = kernel_device();
  const Tensor targets = zeros(Shape{1}, DType::Int64, device);
  const Tensor x = from_values<float>(Shape{1, 3}, {0, -inf, 0}, device).as_leaf();
  const CrossEntropy result = cross_entropy(x, targets, -100);
  CHECK(result.loss.item() == doctest::Approx(std::log(2.0)));
  CHECK(backward(result.loss, std::span(&x, 1)).at(0).to_vector<float>()[1] == 0);
  CHECK(std::isnan(cross_entropy(from_values<float>(Shape{1, 3}, {0, nan, 0}, device), targets, -100).loss.item()));
  CHECK(cross_entropy(from_values<float>(Shape{1, 3}, {-inf, 0, 0}, device), targets, -100).loss.item() == static_cast<double>(inf));
}

TEST_CASE("cross_entropy: a row whose loss is exactly zero does not count") {
  const Device device = kernel_device();
  const Tensor x = from_values<float>(Shape{3, 3}, {1000, 0, 0, 0, 0, 0, 1, 1, 1}, device).as_leaf();
  const Tensor targets = from_values<std::int64_t>(Shape{3}, {0, 1, -100}, device);
  const CrossEntropy result = cross_entropy(x, targets, -100);
  CHECK(result.elements.to_vector<float>()[0] == 0);
  CHECK(result.count.item() == 1);
  CHECK(result.loss.item() == doctest::Approx(std::log(3.0)).epsilon(1e-6));  // not divided by two
  const std::vector<float> dx = backward(result.loss, std::span(&x, 1)).at(0).to_vector<float>();
  const double third = 1.0 / 3, expected[] = {0, 0, 0, third, third - 1, third, 0, 0, 0};
  for (std::size_t i = 0; i < dx.size(); ++i) CHECK(std::abs(static_cast<double>(dx[i]) - expected[i]) <= 1e-6);
}

TEST_CASE("cross_entropy: refuses wrong shapes and dtypes, and weights that require a gradient") {
  const Tensor logits = zeros(Shape{2, 3}, DType::Float32), targets = zeros(Shape{2}, DType::Int64);
  CHECK_THROWS_WITH_AS(cross_entropy(logits, zeros(Shape{3}, DType::Int64), 0), "cross_entropy: expected targets of shape (2), got (3)", ShapeError);
  CHECK_THROWS_AS(cross_entropy(logits, zeros(Shape{2}, DType::Float32), 0), DTypeError);
  CHECK_THROWS_AS(cross_entropy(logits, targets, 0, zeros(Shape{2}, DType::Float64)), DTypeError);
  CHECK_THROWS_AS(cross_entropy(logits, targets, 0, zeros(Shape{2}, DType::Float32).as_leaf()), GradientError);
}

}  // namespace mblm::testing
