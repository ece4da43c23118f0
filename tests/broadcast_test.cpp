// Shapes of ops of two tensors, axes of reductions, special values, and what an op keeps.
#include "ops/broadcast.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ops/add.h"
#include "ops/cast.h"
#include "ops/divide.h"
#include "ops/exp.h"
#include "ops/mean.h"
#include "ops/multiply.h"
#include "ops/relu.h"
#include "ops/softmax.h"
#include "ops/subtract.h"
#include "ops/sum.h"
#include "tests/error_text.h"
#include "tests/kernel_device.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

constexpr DType f32 = DType::Float32, bf16 = DType::BFloat16;
constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

Tensor values(const Shape& shape, const std::vector<float>& v) { return from_values(shape, v, kernel_device()); }
Tensor ones(const Shape& shape, DType dtype = f32) {
  return cast(values(shape, std::vector<float>(static_cast<std::size_t>(shape.numel()), 1.0f)), dtype);
}

std::string text(const Shape& shape) { return concat_text(shape); }

}  // namespace

TEST_CASE("shapes broadcast from their last axes") {
  CHECK(text(broadcast_shape("op", Shape{2, 3}, Shape{3})) == "(2, 3)");
  CHECK(text(broadcast_shape("op", Shape{}, Shape{2, 3})) == "(2, 3)");
  CHECK(text(broadcast_shape("op", Shape{2, 1}, Shape{1, 3})) == "(2, 3)");
  CHECK(text(broadcast_shape("op", Shape{4, 1, 3}, Shape{5, 1})) == "(4, 5, 3)");
  CHECK(text(broadcast_shape("op", Shape{1, 3}, Shape{0, 3})) == "(0, 3)");
  CHECK(text(broadcast_shape("op", Shape{1, 1}, Shape{1})) == "(1, 1)");
}

TEST_CASE("shapes that do not broadcast are refused, and the message names them") {
  const Tensor x = ones(Shape{2, 3});
  using Pair = Tensor (*)(const Tensor&, const Tensor&);
  for (const auto& [name, op] : {std::pair<std::string, Pair>{"add", add}, {"subtract", subtract}, {"multiply", multiply}, {"divide", divide}}) {
    CAPTURE(name);
    CHECK(error_text<ShapeError>([&] { op(x, ones(Shape{2})); }) == name + ": expected shapes that are equal or broadcast, got (2, 3) and (2)");
    CHECK(error_text<ShapeError>([&] { op(ones(Shape{4, 2, 3}), ones(Shape{3, 1, 3})); }) ==
          name + ": expected shapes that are equal or broadcast, got (4, 2, 3) and (3, 1, 3)");
    CHECK(error_text<ShapeError>([&] { op(x, ones(Shape{0, 3})); }) == name + ": expected shapes that are equal or broadcast, got (2, 3) and (0, 3)");
    CHECK(error_text<DTypeError>([&] { op(zeros(Shape{2, 3}, DType::Int64, kernel_device()), x); }) ==
          name + ": expected floating elements, got int64");
    CHECK(error_text<DTypeError>([&] { op(x, zeros(Shape{2, 3}, DType::Int64, kernel_device())); }) ==
          name + ": expected b of float32 or bfloat16, got int64");
    CHECK_THROWS_AS(op({}, x), DTypeError);
    CHECK_THROWS_AS(op(x, {}), DTypeError);
  }
}

TEST_CASE("sum, mean and softmax refuse axes and shapes that they cannot reduce") {
  const Tensor x = ones(Shape{2, 3}), ids = zeros(Shape{2}, DType::Int64, kernel_device());
  CHECK(error_text<ShapeError>([&] { sum(x, 2); }) == "sum: expected an axis in [-2, 2), got 2");
  CHECK(error_text<ShapeError>([&] { mean(x, -3); }) == "mean: expected an axis in [-2, 2), got -3");
  CHECK(error_text<ShapeError>([&] { sum(ones(Shape{}), 0); }) == "sum: expected rank >= 1, got shape ()");
  CHECK(error_text<ShapeError>([&] { mean(ones(Shape{4, 0}), -1); }) == "mean: expected an axis of size >= 1, got axis -1 of shape (4, 0)");
  CHECK(error_text<ShapeError>([&] { mean(ones(Shape{4, 0})); }) == "mean: expected at least one element, got shape (4, 0)");
  CHECK(error_text<ShapeError>([&] { softmax(ones(Shape{})); }) == "softmax: expected rank >= 1, got shape ()");
  CHECK(error_text<DTypeError>([&] { sum(ids, 0); }) == "sum: expected floating elements, got int64");
  CHECK(error_text<DTypeError>([&] { mean(ids); }) == "mean: expected floating elements, got int64");
  for (const auto op : {relu, exp, softmax}) CHECK_THROWS_AS(op(ids), DTypeError);
}

TEST_CASE("infinity and NaN follow the formulas") {
  const auto host = [](const Tensor& x) { return x.to_vector<float>(); };
  const std::vector<float> r = host(relu(values(Shape{5}, {-infinity, -0.5f, 2, infinity, nan})));
  CHECK(std::vector<float>(r.begin(), r.begin() + 4) == std::vector<float>{0, 0, 2, infinity});
  CHECK(std::isnan(r[4]));
  const std::vector<float> e = host(exp(values(Shape{5}, {-infinity, -200, 200, infinity, nan})));
  CHECK(std::vector<float>(e.begin(), e.begin() + 4) == std::vector<float>{0, 0, infinity, infinity});
  CHECK(std::isnan(e[4]));
  const std::vector<float> d = host(divide(values(Shape{3}, {1, -1, 0}), values(Shape{}, {0})));
  CHECK(std::vector<float>(d.begin(), d.begin() + 2) == std::vector<float>{infinity, -infinity});
  CHECK(std::isnan(d[2]));
  CHECK(host(softmax(values(Shape{2, 2}, {-infinity, 3, 1000, -1000}))) == std::vector<float>{0, 1, 1, 0});
  for (const float y : host(softmax(values(Shape{2}, {-infinity, -infinity})))) CHECK(std::isnan(y));
  for (const float y : host(softmax(values(Shape{4}, {1, nan, 2, 0})))) CHECK(std::isnan(y));
}

TEST_CASE("relu passes no gradient at zero") {
  const Tensor x = values(Shape{4}, {-1, 0, 1, 2}).as_leaf(), y = relu(x), dy = ones(Shape{4});
  CHECK(backward(std::span(&y, 1), std::span(&dy, 1), std::span(&x, 1))[0].to_vector<float>() == std::vector<float>{0, 0, 1, 1});
}

TEST_CASE("bfloat16: sums and gradients of repeated operands accumulate in float32") {
  // A sum in bfloat16 would stop at 256, where adding 1 no longer changes it.
  const Shape shape{3000, 5};
  const Tensor x = ones(shape, bf16);
  CHECK(sum(x, 0).to_vector_as<float>() == std::vector<float>(5, 3008));  // 3000, rounded
  CHECK(sum(x).item() == 14976);                                          // 15000, rounded
  CHECK(mean(x).item() == 1);
  using Pair = Tensor (*)(const Tensor&, const Tensor&);
  for (const auto& [op, expected] : {std::pair<Pair, float>{add, 3008.0f}, {subtract, -3008.0f}, {multiply, 3008.0f}, {divide, -3008.0f}}) {
    const Tensor row = ones(Shape{5}, bf16).as_leaf(), y = op(x, row), dy = ones(shape, bf16);
    CHECK(backward(std::span(&y, 1), std::span(&dy, 1), std::span(&row, 1))[0].to_vector_as<float>() == std::vector<float>(5, expected));
  }
}

TEST_CASE("an operand without a gradient gets none, and keeps nothing alive") {
  const Tensor row = ones(Shape{3}).as_leaf();
  Tensor x = ones(Shape{2, 3});
  const Tensor sums = add(x, row);
  CHECK(x.storage_is_unshared());
  const Tensor products = multiply(x, row);  // the gradient of the row needs x
  CHECK(!x.storage_is_unshared());
  const Tensor dy = ones(Shape{2, 3});
  for (const Tensor& y : {sums, products})
    CHECK(backward(std::span(&y, 1), std::span(&dy, 1), std::span(&row, 1))[0].to_vector<float>() == std::vector<float>{2, 2, 2});
}

}  // namespace mblm::testing
