#include "ops/dropout.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/elementwise.h"
#include "tests/kernel_device.h"

namespace mblm::testing {
namespace {

constexpr RandomKey key{.seed = 42, .site = site_of("ff"), .step = 3};

RandomStream stream_of(const RandomKey& of) { return {of.seed, of.site, make_step_scalars(kernel_device(), {.micro_step = static_cast<double>(of.step)})}; }

Tensor ones(const Shape& shape) {
  Tensor x = empty(shape, DType::Float32, kernel_device());
  fill(x, 1.0);
  return x;
}

double kept(const Tensor& y) {
  double count = 0;
  for (const float v : y.to_vector<float>()) count += v != 0 ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("dropout: keeps 1 - p of the elements, and keys give independent masks") {
  const double n = 1 << 20;
  const Tensor x = ones(Shape{1 << 20});
  for (const double p : {0.05, 0.5, 0.9}) {
    const Tensor y = dropout(x, p, stream_of(key));
    CHECK(std::abs(kept(y) - n * (1 - p)) < 5 * std::sqrt(n * p * (1 - p)));
    for (const RandomKey other :
         {RandomKey{43, key.site, key.step}, RandomKey{key.seed, key.site + 1, key.step}, RandomKey{key.seed, key.site, key.step + 1}}) {
      const double both = kept(dropout(y, p, stream_of(other))), share = (1 - p) * (1 - p);  // two masks are independent
      CHECK(std::abs(both - n * share) < 5 * std::sqrt(n * share * (1 - share)));
    }
  }
}

TEST_CASE("dropout: backward draws the same mask as forward") {
  const Tensor x = ones(Shape{3, 1001}).as_leaf();
  const Tensor y = dropout(x, 0.3, stream_of(key), 5), dy = ones(x.shape());
  const Tensor dx = backward(std::span(&y, 1), std::span(&dy, 1), std::span(&x, 1)).at(0);
  CHECK(dx.to_vector<float>() == y.to_vector<float>());
}

TEST_CASE("dropout: a slice with its first_element has the mask of the whole tensor") {
  const Tensor x = ones(Shape{40000});
  const std::vector<float> whole = dropout(x, 0.5, stream_of(key)).to_vector<float>();
  for (const std::int64_t first : {0, 1, 2, 3, 511, 16383, 39999}) {
    for (const Tensor& slice : {x.slice(first, 40000), clone(x.slice(first, 40000))}) {  // the second begins at an aligned address
      const std::vector<float> part = dropout(slice, 0.5, stream_of(key), static_cast<std::uint64_t>(first)).to_vector<float>();
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + first));
    }
  }
}

TEST_CASE("dropout: p = 0 returns the tensor itself, p outside [0, 1) is refused") {
  const Tensor x = ones(Shape{3});
  CHECK(dropout(x, 0, stream_of(key)).same_storage(x));
  CHECK_THROWS_WITH_AS(dropout(x, 1.0, stream_of(key)), "dropout: expected a probability in [0, 1), got 1", ValueError);
  CHECK_THROWS_AS(dropout(x, -0.1, stream_of(key)), ValueError);
}

TEST_CASE("dropout: without step scalars the micro-step is 0") {
  const Tensor x = ones(Shape{1000});
  CHECK(dropout(x, 0.5, {1, 2}).to_vector<float>() == dropout(x, 0.5, stream_of({1, 2, 0})).to_vector<float>());
}

}  // namespace mblm::testing
