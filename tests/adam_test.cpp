#include "ops/adam.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "engine/parallel.h"
#include "tests/kernel_device.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// On a GPU the kernels take float32 only.
std::vector<DType> dtypes() {
  std::vector<DType> all{DType::Float32};
  if (adam_step.takes(kernel_device().kind, DType::Float64)) all.push_back(DType::Float64);
  return all;
}

Tensor on_device(const HostArray& x, DType dtype = DType::Float32) { return from_host(x, dtype, kernel_device()); }
template <class T>
Tensor on_device(const Shape& shape, const std::vector<T>& values) {
  return from_values<T>(shape, values, kernel_device());
}

HostArray random_values(std::int64_t n, std::uint64_t seed, double scale = 1.0) {
  HostArray x(Shape{n});
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  for (double& v : x.v) v = static_cast<float>(scale * normal(random));
  return x;
}

struct StepOptions {
  double learning_rate = 1e-3, clip = 0;
  std::int64_t step = 1;  // Adam's step in the reference; the scalars of the arenas count their own
  bool stop = false;
  AdamOptions adam = {};
};

// The flat arenas of one optimizer.
struct Arenas {
  Tensor values, first, second, copy, decays, segments, scalars = make_step_scalars(kernel_device());
  explicit Arenas(const HostArray& x, DType dtype = DType::Float32)
      : values(on_device(x, dtype)), first(zeros_like(values)), second(zeros_like(values)) {
    copy = zeros(x.shape, DType::BFloat16, kernel_device());
    const std::int64_t n = x.shape[0], third = n / 3;
    segments = on_device<std::int64_t>(Shape{3, 2}, {0, third, third, 2 * third, 2 * third, n});
  }
  void step(const Tensor& gradients, const StepOptions& o) {
    write_step_scalar(scalars, &StepScalars::learning_rate, o.learning_rate);
    gradient_norm(gradients, segments, {.clip = o.clip, .stop_after_nonfinite = o.stop}, scalars);
    adam_step(values, gradients, first, second, copy, decays, o.adam, scalars);
  }
  StepScalars read() const { return read_step_scalars(scalars); }
};

// The formula in float64, with the bias corrections of Kingma and Ba.
struct Reference {
  std::vector<double> values, first, second;
  std::vector<std::uint8_t> decays = {};  // per group of decay_group elements; empty: no element decays
  explicit Reference(const HostArray& x) : values(x.v), first(x.v.size(), 0.0), second(x.v.size(), 0.0) {}
  void step(const HostArray& gradients, const StepOptions& o) {
    double square = 0;
    for (const double g : gradients.v) square += g * g;
    const double clip = o.clip > 0 ? std::min(1.0, o.clip / (std::sqrt(square) + 1e-6)) : 1.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double g = clip * gradients.v[i];
      first[i] = o.adam.beta1 * first[i] + (1 - o.adam.beta1) * g;
      second[i] = o.adam.beta2 * second[i] + (1 - o.adam.beta2) * g * g;
      const double m = first[i] / (1 - std::pow(o.adam.beta1, static_cast<double>(o.step)));
      const double v = second[i] / (1 - std::pow(o.adam.beta2, static_cast<double>(o.step)));
      const bool decayed = !decays.empty() && decays[i / decay_group] != 0;
      values[i] -= o.learning_rate * (decayed ? o.adam.weight_decay * values[i] : 0);
      values[i] -= o.learning_rate * m / (std::sqrt(v) + o.adam.eps);
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
    const StepOptions options{.learning_rate = 1e-2 / step, .clip = clip, .step = step};
    ours.step(on_device(gradients, dtype), options);
    reference.step(gradients, options);
  }
  HostArray expected(start.shape);
  expected.v = reference.values;
  CHECK(relative_error(to_host(ours.values), expected) < (dtype == DType::Float64 ? 1e-14 : 1e-6));
  const HostArray values = to_host(ours.values), copy = to_host(ours.copy);
  for (std::size_t i = 0; i < values.v.size(); ++i) REQUIRE(copy.v[i] == static_cast<float>(bfloat16(static_cast<float>(values.v[i]))));
}

}  // namespace

TEST_CASE("adam_step: matches the formula, with and without clipping") {
  for (const std::int64_t n : {1, 31, 1025, 40000})
    for (const double clip : {0.0, 0.5, 1e6})
      for (const DType dtype : dtypes()) check_against_reference(n, clip, dtype);
}

TEST_CASE("adam_step: weight decay, betas and eps, for groups of elements in any pattern") {
  const AdamOptions adam{.beta1 = 0.8, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0.3};
  for (const std::int64_t n : {1, 63, 64, 65, 1025, 40000}) {
    for (const DType dtype : dtypes()) {
      CAPTURE(n);
      const HostArray start = random_values(n, 1);
      Arenas ours(start, dtype), plain(start, dtype);
      Reference reference(start);
      std::mt19937_64 random(7);
      for (std::int64_t i = 0; i < (n + decay_group - 1) / decay_group; ++i) reference.decays.push_back(static_cast<std::uint8_t>(i == 0 || random() % 3 != 0));
      ours.decays = on_device<std::uint8_t>(Shape{static_cast<std::int64_t>(reference.decays.size())}, reference.decays);
      for (int step = 1; step <= 4; ++step) {
        const HostArray gradients = random_values(n, 10 + static_cast<std::uint64_t>(step), 0.1);
        const StepOptions options{.learning_rate = 0.05, .step = step, .adam = adam};
        ours.step(on_device(gradients, dtype), options);
        plain.step(on_device(gradients, dtype), options);
        reference.step(gradients, options);
      }
      HostArray expected(start.shape);
      expected.v = reference.values;
      CHECK(relative_error(to_host(ours.values), expected) < (dtype == DType::Float64 ? 1e-14 : 1e-6));
      CHECK(relative_error(to_host(plain.values), expected) > 1e-3);  // without groups nothing decays
      const HostArray with = to_host(ours.values), without = to_host(plain.values);
      for (std::size_t i = 0; i < with.v.size(); ++i)
        if (reference.decays[i / decay_group] == 0) REQUIRE(with.v[i] == without.v[i]);
    }
  }
}

TEST_CASE("adam_step: works without a bfloat16 copy and with empty arenas") {
  Arenas with(random_values(33, 1)), without(random_values(33, 1)), nothing(HostArray(Shape{0}));
  without.copy = Tensor{};
  const Tensor gradients = on_device(random_values(33, 2));
  with.step(gradients, {});
  without.step(gradients, {});
  CHECK(with.values.to_vector<float>() == without.values.to_vector<float>());
  nothing.step(on_device(HostArray(Shape{0})), {});
  CHECK(nothing.read().gradient_norm == 0);
  CHECK(nothing.read().updates == 1);
}

TEST_CASE("adam_step: a non-finite gradient changes no value or moment") {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Arenas arenas(random_values(20000, 1));
    arenas.step(on_device(random_values(20000, 2)), {.clip = 1.0});
    const std::vector<float> values = arenas.values.to_vector<float>(), first = arenas.first.to_vector<float>(),
                             second = arenas.second.to_vector<float>();
    HostArray gradients = random_values(20000, 3);
    gradients.v[6666] = bad;
    arenas.step(on_device(gradients), {.clip = 1.0});
    const StepScalars after = arenas.read();
    CHECK(after.steps == 2);
    CHECK(after.updates == 1);
    CHECK(after.nonfinite_step == 2);
    CHECK(after.nonfinite_parameter == 1);
    gradients.v[19999] = bad;  // the last segment is reported: backward reaches it first
    arenas.step(on_device(gradients), {.clip = 1.0});
    CHECK(arenas.read().nonfinite_parameter == 2);
    CHECK(arenas.values.to_vector<float>() == values);
    CHECK(arenas.first.to_vector<float>() == first);
    CHECK(arenas.second.to_vector<float>() == second);
  }
}

TEST_CASE("gradient_norm: a non-finite loss is recorded without a parameter, and skipped steps do not count for Adam") {
  const HostArray start = random_values(100, 1), good = random_values(100, 2);
  const DType dtype = dtypes().back();
  const double bound = dtype == DType::Float64 ? 1e-14 : 1e-6;
  Arenas skipping(start, dtype), stopping(start, dtype);
  Reference reference(start);
  for (Arenas* arenas : {&skipping, &stopping}) {
    const StepOptions options{.learning_rate = 1e-2, .stop = arenas == &stopping};
    arenas->step(on_device(good, dtype), options);
    write_step_scalar(arenas->scalars, &StepScalars::loss_sum, std::numeric_limits<double>::infinity());
    arenas->step(on_device(good, dtype), options);
    CHECK(arenas->read().nonfinite_step == 2);
    CHECK(arenas->read().nonfinite_parameter == -1);
    CHECK(std::isinf(arenas->read().nonfinite_loss));
    CHECK(arenas->read().loss_sum == 0);
    arenas->step(on_device(good, dtype), options);
  }
  reference.step(good, {.learning_rate = 1e-2});
  HostArray expected(start.shape);
  expected.v = reference.values;
  CHECK(relative_error(to_host(stopping.values), expected) < bound);  // no update after the second step
  CHECK(stopping.read().updates == 1);
  CHECK(stopping.read().nonfinite_step == 2);
  reference.step(good, {.learning_rate = 1e-2, .step = 2});
  expected.v = reference.values;
  CHECK(relative_error(to_host(skipping.values), expected) < bound);  // the third step is the second step of Adam
  CHECK(skipping.read().updates == 2);
  CHECK(skipping.read().steps == 3);
  skipping.step(on_device(good, dtype), {.learning_rate = 1e-2, .stop = true});  // a skipped step does not stop later ones
  CHECK(skipping.read().updates == 3);
  CHECK(stopping.read().stopped == 1);
}

TEST_CASE("count_micro_step adds losses and counts, and adam_step moves them to group_loss and group_count") {
  Arenas arenas(random_values(9, 1));
  const auto count = [&](float loss, std::int64_t bytes) {
    count_micro_step(on_device<float>(Shape{}, {loss}), on_device<std::int64_t>(Shape{}, {bytes}), arenas.scalars);
  };
  count(1.5f, 7);
  count(2.25f, 0);
  CHECK(arenas.read().loss_sum == 3.75);
  CHECK(arenas.read().count == 7);
  CHECK(arenas.read().micro_step == 2);
  arenas.step(on_device(HostArray(Shape{9})), {});
  CHECK(arenas.read().group_loss == 3.75);
  CHECK(arenas.read().group_count == 7);
  CHECK(arenas.read().loss_sum == 0);
  CHECK(arenas.read().micro_step == 2);
}

TEST_CASE("step sums are added over workers, and one non-finite loss makes the total non-finite") {
  const Device device = kernel_device();
  Tensor one = make_step_scalars(device, {.loss_sum = 1.5, .count = 3}), other = make_step_scalars(device, {.loss_sum = 2, .count = 4});
  Tensor a = zeros(Shape{step_sums}, DType::Float32, device), b = zeros(Shape{step_sums}, DType::Float32, device);
  const auto add_up = [&] {
    pack_step_sums(one, a);
    pack_step_sums(other, b);
    std::vector<float> total = a.to_vector<float>();
    const std::vector<float> added = b.to_vector<float>();
    for (std::size_t i = 0; i < total.size(); ++i) total[i] += added[i];
    unpack_step_sums(on_device<float>(Shape{step_sums}, total), one);
  };
  add_up();
  CHECK(read_step_scalars(one).loss_sum == 3.5);
  CHECK(read_step_scalars(one).count == 7);
  write_step_scalar(other, &StepScalars::loss_sum, std::numeric_limits<double>::quiet_NaN());
  add_up();
  CHECK_FALSE(std::isfinite(read_step_scalars(one).loss_sum));
}

TEST_CASE("segment_means: the mean of each range, 0 for an empty range") {
  const Tensor x = on_device<float>(Shape{6}, {1, 2, 3, 4, 5, 9});
  Tensor means = zeros(Shape{3}, DType::Float64, kernel_device());
  segment_means(x, on_device<std::int64_t>(Shape{3, 2}, {0, 2, 2, 2, 3, 6}), means);
  CHECK(means.to_vector<double>() == std::vector<double>{1.5, 0, 6});
  const HostArray many = random_values(40001, 1);
  double sum = 0;
  for (std::size_t i = 13; i < many.v.size(); ++i) sum += many.v[i];
  Tensor mean = zeros(Shape{1}, DType::Float64, kernel_device());
  segment_means(on_device(many), on_device<std::int64_t>(Shape{1, 2}, {13, 40001}), mean);
  CHECK(mean.to_vector<double>()[0] == doctest::Approx(sum / 39988).epsilon(1e-12));
}

TEST_CASE("gradient_norm: the last segment with a non-finite element, for segments of any size and place") {
  HostArray x = random_values(70001, 5);
  const std::vector<std::int64_t> ranges{0, 5, 5, 5, 5, 16384, 16384, 16385, 16390, 60000, 60000, 69990};
  const Tensor segments = on_device<std::int64_t>(Shape{6, 2}, ranges);
  const auto found = [&](std::size_t place) {
    const double before = std::exchange(x.v[place], std::numeric_limits<double>::quiet_NaN());
    Tensor scalars = make_step_scalars(kernel_device());
    gradient_norm(on_device(x), segments, {}, scalars);
    x.v[place] = before;
    CHECK(read_step_scalars(scalars).applies == 0);
    return read_step_scalars(scalars).nonfinite_parameter;
  };
  const std::vector<std::pair<std::size_t, double>> places{{0, 0},     {4, 0},     {5, 2},     {16383, 2}, {16384, 3}, {16386, -1},
                                                           {16390, 4}, {40000, 4}, {59999, 4}, {60000, 5}, {69989, 5}, {70000, -1}};
  for (const auto& [place, segment] : places) {
    CAPTURE(place);
    CHECK(found(place) == segment);
  }
}

TEST_CASE("gradient_norm: sums are float64 and have the same bits with any number of threads") {
  const HostArray x = random_values(100001, 4, 1e19);  // squares beyond float32
  const Tensor values = on_device(x);
  double square = 0;
  for (const double v : x.v) square += v * v;
  Tensor scalars = make_step_scalars(kernel_device());
  const Tensor segments = on_device<std::int64_t>(Shape{1, 2}, {0, 100001});
  const int before = thread_count();
  std::vector<double> norms;
  for (const int threads : {1, 2, 3, 8}) {
    set_thread_count(threads);
    gradient_norm(values, segments, {}, scalars);
    norms.push_back(read_step_scalars(scalars).gradient_norm);
    CHECK(read_step_scalars(scalars).applies == 1);
  }
  set_thread_count(before);
  CHECK(norms[0] == doctest::Approx(std::sqrt(square)).epsilon(1e-13));
  CHECK(norms == std::vector<double>(4, norms[0]));
}

}  // namespace mblm::testing
