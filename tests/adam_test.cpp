#include "ops/adam.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "engine/parallel.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

HostArray random_values(std::int64_t n, std::uint64_t seed, double scale = 1.0) {
  HostArray x(Shape{n});
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  for (double& v : x.v) v = static_cast<float>(scale * normal(random));
  return x;
}

// The flat arenas of one optimizer.
struct Arenas {
  Tensor values, first, second, copy, norm = zeros(Shape{1}, DType::Float64), finite = zeros(Shape{1}, DType::UInt8);
  Arenas(const HostArray& x, DType dtype) : values(from_host(x, dtype)), first(zeros_like(values)), second(zeros_like(values)) {
    copy = zeros(x.shape, DType::BFloat16);
  }
  void step(const Tensor& gradients, const AdamOptions& options) {
    global_norm(gradients, norm, finite);
    adam_step(values, gradients, first, second, copy, norm, finite, options);
  }
};

// The formula in double, the moments with the bias corrections of Kingma and Ba.
struct Reference {
  std::vector<double> values, first, second;
  explicit Reference(const HostArray& x) : values(x.v), first(x.v.size(), 0.0), second(x.v.size(), 0.0) {}
  void step(const HostArray& gradients, const AdamOptions& o) {
    double square = 0;
    for (const double g : gradients.v) square += g * g;
    const double clip = o.clip > 0 ? std::min(1.0, o.clip / (std::sqrt(square) + 1e-6)) : 1.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double g = clip * gradients.v[i];
      first[i] = o.beta1 * first[i] + (1 - o.beta1) * g;
      second[i] = o.beta2 * second[i] + (1 - o.beta2) * g * g;
      const double m = first[i] / (1 - std::pow(o.beta1, static_cast<double>(o.step)));
      const double v = second[i] / (1 - std::pow(o.beta2, static_cast<double>(o.step)));
      values[i] -= o.learning_rate * m / (std::sqrt(v) + o.eps);
    }
  }
};

void check_against_reference(std::int64_t n, double clip, DType dtype) {
  CAPTURE(n);
  CAPTURE(clip);
  const HostArray start = random_values(n, 1);
  Arenas ours(start, dtype);
  Reference reference(start);
  for (int step = 1; step <= 5; ++step) {
    const HostArray gradients = random_values(n, 10 + static_cast<std::uint64_t>(step), 0.1 * step);
    const AdamOptions options{.learning_rate = 1e-2 / step, .clip = clip, .step = step};
    ours.step(from_host(gradients, dtype), options);
    reference.step(gradients, options);
  }
  HostArray expected(start.shape);
  expected.v = reference.values;
  CHECK(relative_error(to_host(ours.values), expected) < (dtype == DType::Float64 ? 1e-14 : 1e-6));
  const HostArray values = to_host(ours.values), copy = to_host(ours.copy);
  for (std::size_t i = 0; i < values.v.size(); ++i) REQUIRE(copy.v[i] == static_cast<float>(bfloat16(static_cast<float>(values.v[i]))));
}

}  // namespace

TEST_CASE("adam_step: follows the formula, with and without clipping") {
  for (const std::int64_t n : {1, 31, 1025, 40000})
    for (const double clip : {0.0, 0.5, 1e6})
      for (const DType dtype : {DType::Float64, DType::Float32}) check_against_reference(n, clip, dtype);
}

TEST_CASE("adam_step: works without a bfloat16 copy and on nothing at all") {
  Arenas with(random_values(33, 1), DType::Float32), without(random_values(33, 1), DType::Float32), nothing(HostArray(Shape{0}), DType::Float32);
  without.copy = Tensor{};
  const Tensor gradients = from_host(random_values(33, 2), DType::Float32);
  with.step(gradients, {});
  without.step(gradients, {});
  CHECK(with.values.to_vector<float>() == without.values.to_vector<float>());
  nothing.step(zeros(Shape{0}, DType::Float32), {});
  CHECK(nothing.norm.item() == 0);
  CHECK(nothing.finite.item() == 1);
}

TEST_CASE("adam_step: a gradient that is not finite changes nothing") {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Arenas arenas(random_values(20000, 1), DType::Float32);
    arenas.step(from_host(random_values(20000, 2), DType::Float32), {.clip = 1.0});
    const std::vector<float> values = arenas.values.to_vector<float>(), first = arenas.first.to_vector<float>(),
                             second = arenas.second.to_vector<float>();
    Tensor gradients = from_host(random_values(20000, 3), DType::Float32);
    gradients.host_data<float>()[19999] = bad;
    arenas.step(gradients, {.clip = 1.0, .step = 2});
    CHECK(arenas.finite.item() == 0);
    CHECK(arenas.values.to_vector<float>() == values);
    CHECK(arenas.first.to_vector<float>() == first);
    CHECK(arenas.second.to_vector<float>() == second);
  }
}

TEST_CASE("global_norm: float64 sums, the same bits with any number of threads") {
  const HostArray x = random_values(100001, 4, 1e19);  // squares beyond float32
  const Tensor values = from_host(x, DType::Float32);
  double square = 0;
  for (const double v : x.v) square += v * v;
  Tensor norm = zeros(Shape{1}, DType::Float64), finite = zeros(Shape{1}, DType::UInt8);
  const int before = thread_count();
  std::vector<double> norms;
  for (const int threads : {1, 2, 3, 8}) {
    set_thread_count(threads);
    global_norm(values, norm, finite);
    norms.push_back(norm.item());
    CHECK(finite.item() == 1);
  }
  set_thread_count(before);
  CHECK(norms[0] == doctest::Approx(std::sqrt(square)).epsilon(1e-13));
  CHECK(norms == std::vector<double>(4, norms[0]));
}

}  // namespace mblm::testing
