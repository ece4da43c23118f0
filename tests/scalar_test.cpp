// The scalar formulas and the vector functions of the CPU kernels against the standard library, over their whole ranges.
#include "ops/scalar.h"

#include <doctest/doctest.h>

#include "cpu/lanes.h"

namespace mblm {
namespace {

// The largest |f(x) - expected(x)| / expected(x), in units of 2^-24, over about 2e6 steps from `first` to `last`.
template <class F, class Expected>
double largest_error(float first, float last, F&& f, Expected&& expected) {
  double largest = 0;
  for (int i = 0; i <= 2'000'000; ++i) {
    const float x = static_cast<float>(first + (static_cast<double>(last) - first) * i / 2e6);
    const double wanted = expected(static_cast<double>(x));
    largest = std::max(largest, std::abs(static_cast<double>(f(x)) - wanted) / wanted);
  }
  return largest * 16777216.0;
}

float exp2_of(float x) { return fast_exp2(Lanes<float>{} + x)[0]; }

constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("scalar::exp is e^x within two units of 2^-24") {
  CHECK(largest_error(
            -86.6f, 88.722f, [](float x) { return scalar::exp(x); }, [](double x) { return std::exp(x); }) < 2.0);
  CHECK(largest_error(
            -0.01f, 0.01f, [](float x) { return scalar::exp(x); }, [](double x) { return std::exp(x); }) < 1.2);
  CHECK(scalar::exp(0.0f) == 1.0f);
  for (const float x : {-88.0f, -1000.0f, -1e30f, -infinity}) CHECK(scalar::exp(x) == 0.0f);
  for (const float x : {88.74f, 1000.0f, 1e30f, infinity}) CHECK(scalar::exp(x) == infinity);
  CHECK(std::isnan(scalar::exp(nan)));
}

TEST_CASE("fast_exp2 is 2^x within three units of 2^-24") {
  CHECK(largest_error(-125.9f, 126.0f, exp2_of, [](double x) { return std::exp2(x); }) < 3.0);
  CHECK(largest_error(-0.01f, 0.01f, exp2_of, [](double x) { return std::exp2(x); }) < 1.2);
  CHECK(exp2_of(0.0f) == 1.0f);
  for (const float x : {-127.0f, -1000.0f, -1e30f, -infinity}) CHECK(exp2_of(x) == 0.0f);
  CHECK(std::isnan(exp2_of(nan)));
}

TEST_CASE("scalar::sigmoid is accurate within four units of 2^-24, for negative and positive x") {
  CHECK(largest_error(
            -86.0f, 40.0f, [](float x) { return scalar::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }) < 4.0);
  CHECK(scalar::sigmoid(-1e30f) == 0.0f);
  CHECK(scalar::sigmoid(1e30f) == 1.0f);
}

TEST_CASE("scalar::tanh is tanh x within four units of 2^-24") {
  const auto ours = [](float x) { return scalar::tanh(x); };
  const auto expected = [](double x) { return std::tanh(x); };
  CHECK(largest_error(1e-3f, 0.999f, ours, expected) < 4.0);
  CHECK(largest_error(0.99f, 40.0f, ours, expected) < 4.0);
  CHECK(scalar::tanh(0.0f) == 0.0f);
  for (const float x : {1e-30f, 0.5f, 3.0f, 1e30f, infinity}) CHECK(scalar::tanh(-x) == -scalar::tanh(x));
  CHECK(scalar::tanh(infinity) == 1.0f);
  CHECK(std::isnan(scalar::tanh(nan)));
}

TEST_CASE("sum_each adds the lanes of each vector") {
  Lanes<float> rows[lane_count<float>];
  for (int i = 0; i < lane_count<float>; ++i)
    for (int j = 0; j < lane_count<float>; ++j) rows[i][j] = static_cast<float>(i * 100 + j * j);
  const Lanes<float> sums = sum_each<float>(rows);
  for (int i = 0; i < lane_count<float>; ++i) {
    float sum = 0;
    for (int j = 0; j < lane_count<float>; ++j) sum += static_cast<float>(i * 100 + j * j);
    CHECK(sums[i] == sum);
  }
}

}  // namespace mblm
