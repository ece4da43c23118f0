#include "ops/cast.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/kernel_device.h"
#include "tests/op_case.h"

namespace mblm::testing {

TEST_CASE("cast: bfloat16 rounds to nearest even") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  // With 8 bits of significand, 1 + 2^-8 and 1 + 3 * 2^-8 are halfway between two bfloat16 values.
  const std::vector<float> values{1, 1 + 0x1p-8f, 1 + 0x1p-8f + 0x1p-20f, 1 + 3 * 0x1p-8f, -1 - 0x1p-8f, 0x1p-126f, 3.4e38f, inf, -inf, -0.0f};
  const std::vector<float> rounded{1, 1, 1 + 0x1p-7f, 1 + 0x1p-6f, -1, 0x1p-126f, inf, inf, -inf, -0.0f};
  const Tensor x = from_values<float>(Shape{10}, values, kernel_device());
  CHECK(cast(cast(x, DType::BFloat16), DType::Float32).to_vector<float>() == rounded);
  CHECK(to_host(cast(cast(cast(x, DType::Float64), DType::BFloat16), DType::Float64)).v == std::vector<double>(rounded.begin(), rounded.end()));
  // A conversion between float32 and bfloat16 keeps numbers below the smallest normal one. Arithmetic treats them as zero.
  const Tensor tiny = from_values<float>(Shape{1}, {0x1p-130f}, kernel_device());
  CHECK(cast(cast(tiny, DType::BFloat16), DType::Float32).to_vector<float>() == std::vector<float>{0x1p-130f});
  const Tensor nan = from_values<float>(Shape{1}, {std::numeric_limits<float>::quiet_NaN()}, kernel_device());
  CHECK(std::isnan(cast(cast(nan, DType::BFloat16), DType::Float32).item()));
}

TEST_CASE("cast: the gradient has the dtype of the input") {
  const Tensor x = from_values<float>(Shape{3}, {1, 2, 3}, kernel_device()).as_leaf();
  const Tensor y = cast(x, DType::BFloat16), dy = cast(from_values<float>(Shape{3}, {4, -5, 6}, kernel_device()), DType::BFloat16);
  const Tensor dx = backward(std::span(&y, 1), std::span(&dy, 1), std::span(&x, 1)).at(0);
  CHECK(dx.to_vector<float>() == std::vector<float>{4, -5, 6});
}

TEST_CASE("cast: the same dtype returns the tensor itself, integers are refused") {
  const Tensor x = zeros(Shape{3}, DType::Float32, kernel_device());
  CHECK(cast(x, DType::Float32).same_storage(x));
  CHECK_THROWS_WITH_AS(cast(x, DType::Int64), "cast: expected a floating target dtype, got int64", DTypeError);
  CHECK_THROWS_AS(cast(zeros(Shape{3}, DType::Int64, kernel_device()), DType::Float32), DTypeError);
}

}  // namespace mblm::testing
