// Parameters in arenas.
#include "engine/parameters.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "engine/autograd.h"
#include "engine/pool.h"
#include "tests/error_text.h"

namespace mblm::testing {
namespace {

std::vector<std::string> names_of(const std::vector<NamedTensor>& all) {
  std::vector<std::string> names;
  for (const NamedTensor& named : all) names.push_back(named.name);
  return names;
}

double sum_of_squares(const std::vector<float>& values) { return std::inner_product(values.begin(), values.end(), values.begin(), 0.0); }

}  // namespace

TEST_CASE("initial values depend only on seed and name") {
  ParameterStore one, two;
  const Parameter& a1 = one.add("a", Shape{7, 3}, Init::normal());
  const Parameter& b1 = one.add("b", Shape{5}, Init::uniform(0.5f));
  two.add("before", Shape{100}, Init::normal());
  const Parameter& b2 = two.add("b", Shape{5}, Init::uniform(0.5f));
  const Parameter& a2 = two.add("a", Shape{7, 3}, Init::normal());
  const Parameter& c2 = two.add("c", Shape{7, 3}, Init::normal());
  one.allocate(Device{});
  two.allocate(Device{});
  one.initialize(42);
  two.initialize(42);
  CHECK(a1.value().to_vector<float>() == a2.value().to_vector<float>());
  CHECK(b1.value().to_vector<float>() == b2.value().to_vector<float>());
  CHECK(a2.value().to_vector<float>() != c2.value().to_vector<float>());
  const std::vector<float> before = a1.value().to_vector<float>();
  one.initialize(43);
  CHECK(a1.value().to_vector<float>() != before);
}

TEST_CASE("two names with the same hash have different initial values and sites") {
  ParameterStore store;
  const Parameter& first = store.add("costarring", Shape{9}, Init::normal());
  const Parameter& second = store.add("liquid", Shape{9}, Init::normal());
  REQUIRE(site_of("costarring") == site_of("liquid"));
  CHECK(store.random_site("costarring") != store.random_site("liquid"));
  store.allocate(Device{});
  store.initialize(1);
  CHECK(first.value().to_vector<float>() != second.value().to_vector<float>());
}

TEST_CASE("initial values agree between element types") {
  ParameterStore narrow, wide;
  for (ParameterStore* store : {&narrow, &wide}) store->add("w", Shape{9}, Init::normal());
  narrow.allocate(Device{}, DType::Float32, true);
  wide.allocate(Device{}, DType::Float64);
  narrow.initialize(1);
  wide.initialize(1);
  const std::vector<float> values = narrow.parameters()[0]->value().to_vector<float>();
  const std::vector<double> doubles = wide.parameters()[0]->value().to_vector<double>();
  const std::vector<bfloat16> halves = narrow.parameters()[0]->as(DType::BFloat16).to_vector<bfloat16>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(doubles[i] == static_cast<double>(values[i]));
    CHECK(halves[i].bits == bfloat16(values[i]).bits);
  }
}

TEST_CASE("kinds of initial values") {
  constexpr std::int64_t n = 100000;
  ParameterStore store;
  const Parameter& constant = store.add("constant", Shape{4}, Init::constant(2.5f));
  const Parameter& uniform = store.add("uniform", Shape{n}, Init::uniform(0.25f));
  const Parameter& normal = store.add("normal", Shape{n}, Init::normal().scaled(0.02f));
  const Parameter& zero_row = store.add("zero_row", Shape{5, 3}, Init::normal().with_zero_row(2));
  store.allocate(Device{});
  store.initialize(7);
  CHECK(constant.value().to_vector<float>() == std::vector<float>(4, 2.5f));
  for (const float v : uniform.value().to_vector<float>()) REQUIRE((v >= -0.25f && v < 0.25f));
  CHECK(sum_of_squares(uniform.value().to_vector<float>()) / n == doctest::Approx(0.25 * 0.25 / 3).epsilon(0.02));
  CHECK(std::sqrt(sum_of_squares(normal.value().to_vector<float>()) / n) == doctest::Approx(0.02).epsilon(0.02));
  const std::vector<float> rows = zero_row.value().to_vector<float>();
  for (std::size_t i = 0; i < rows.size(); ++i) CHECK((rows[i] == 0) == (i / 3 == 2));
  ParameterStore outside;
  outside.add("w", Shape{2, 3}, Init::normal().with_zero_row(2));
  outside.allocate(Device{});
  CHECK_THROWS_AS(outside.initialize(0), ValueError);
}

TEST_CASE("arenas are aligned, zero-padded, and share one layout") {
  ParameterStore store;
  store.add("scalar", Shape{}, Init::constant(1));
  store.add("odd", Shape{65}, Init::constant(1));
  store.add("none", Shape{0, 4}, Init::constant(1));
  store.add("matrix", Shape{3, 50}, Init::constant(1));
  store.allocate(Device{}, DType::Float32, true);
  store.initialize(0);
  CHECK(store.count() == 1 + 65 + 150);
  CHECK(store.values().numel() == 64 + 128 + 0 + 192);
  CHECK(store.gradients().shape() == store.values().shape());
  CHECK(store.bfloat16_values().shape() == store.values().shape());
  for (const auto& parameter : store.parameters()) {
    CHECK(parameter->offset() % 64 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(parameter->value().host_bytes().data()) % 64 == 0);
    CHECK(parameter->value().same_storage(store.values()));
    CHECK(parameter->gradient().same_storage(store.gradients()));
    CHECK(parameter->gradient().shape() == parameter->shape());
  }
  CHECK(sum_of_squares(store.values().to_vector<float>()) == store.count());  // ones, with zeros as padding
  CHECK(sum_of_squares(store.gradients().to_vector<float>()) == 0);
}

TEST_CASE("merged parts are one tensor for ops and several tensors in files") {
  ParameterStore merged, apart;
  const Parameter& both = merged.add_merged({{"q", Shape{2, 3}, Init::normal()}, {"kv", Shape{4, 3}, Init::normal().scaled(2)}});
  const Parameter& q = apart.add("q", Shape{2, 3}, Init::normal());
  const Parameter& kv = apart.add("kv", Shape{4, 3}, Init::normal().scaled(2));
  merged.allocate(Device{});
  apart.allocate(Device{});
  merged.initialize(5);
  apart.initialize(5);
  CHECK(both.name() == "q");
  CHECK(both.shape() == Shape{6, 3});
  CHECK(both.value().slice(0, 2).to_vector<float>() == q.value().to_vector<float>());
  CHECK(both.value().slice(2, 6).to_vector<float>() == kv.value().to_vector<float>());
  const std::vector<NamedTensor> named = merged.named_values();
  CHECK(names_of(named) == std::vector<std::string>{"q", "kv"});
  CHECK(named[1].tensor.shape() == Shape{4, 3});
  CHECK(named[1].tensor.same_storage(merged.values()));
  CHECK_FALSE(named[1].tensor.wants_grad());
  CHECK(names_of(merged.named_gradients()) == names_of(named));
  CHECK(merged.named_gradients()[0].tensor.same_storage(merged.gradients()));
}

TEST_CASE("constants are stored in files but not trained") {
  ParameterStore store;
  store.add("w", Shape{2}, Init::normal());
  store.add_constant("table", zeros(Shape{3}, DType::Float32));
  store.allocate(Device{});
  CHECK(names_of(store.named_values()) == std::vector<std::string>{"w", "table"});
  CHECK(names_of(store.named_gradients()) == std::vector<std::string>{"w"});
  CHECK(store.count() == 2);
}

TEST_CASE("duplicate names are rejected") {
  ParameterStore store;
  store.add("a", Shape{1}, Init::normal());
  store.add_merged({{"b", Shape{1}, Init::normal()}, {"c", Shape{1}, Init::normal()}});
  store.add_constant("d", zeros(Shape{1}, DType::Float32));
  for (const char* name : {"a", "b", "c", "d"}) {
    const std::string message = concat_text("parameters: duplicate name ", name);
    CHECK(error_text<ValueError>([&] { store.add(name, Shape{1}, Init::normal()); }) == message);
    CHECK(error_text<ValueError>([&] { store.add_constant(name, Tensor{}); }) == message);
  }
  CHECK_THROWS_AS(store.add_merged({{"e", Shape{1}, Init::normal()}, {"e", Shape{1}, Init::normal()}}), ValueError);
  CHECK(store.parameters().size() == 2);
}

TEST_CASE("invalid declarations and calls are rejected") {
  ParameterStore store;
  const Parameter& w = store.add("w", Shape{2}, Init::normal());
  CHECK_THROWS_AS(store.add_merged({{"p", Shape{1, 2}, Init::normal()}, {"q", Shape{1, 3}, Init::normal()}}), ShapeError);
  CHECK(error_text<Error>([&] { (void)w.tensor(); }) == "w: the parameter is not allocated yet");
  store.allocate(Device{});
  CHECK_THROWS_AS(store.add("late", Shape{2}, Init::normal()), Error);
  CHECK_THROWS_AS(store.allocate(Device{}), Error);
  CHECK(error_text<DTypeError>([&] { (void)w.as(DType::BFloat16); }) == "w: there is no bfloat16 copy of the parameters");
  ParameterStore large;
  for (const char* name : {"a", "b", "c"}) large.add(name, Shape{std::int64_t{1} << 62}, Init::normal());
  CHECK_THROWS_AS(large.allocate(Device{}), MemoryError);
}

TEST_CASE("both element types of a parameter share one gradient") {
  ParameterStore store;
  const Parameter& w = store.add("w", Shape{2}, Init::normal());
  store.allocate(Device{}, DType::Float32, true);
  CHECK(w.tensor().wants_grad());
  CHECK_FALSE(w.value().wants_grad());
  CHECK(w.as(DType::Float32).same_storage(store.values()));
  CHECK(w.as(DType::BFloat16).same_storage(store.bfloat16_values()));
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    const GradSlot slot = grad_slot(w.as(dtype));
    CHECK(slot.beta == 1);
    CHECK(slot.tensor.same_storage(store.gradients()));
  }
}

TEST_CASE("parameters without gradients record nothing and take less memory") {
  const auto used = [](Gradients gradients) {
    const auto pool = std::make_shared<MemoryPool>(Device{});
    const PoolScope scope(pool);
    ParameterStore store;
    const Parameter& parameter = store.add("weight", Shape{400, 300}, Init::normal());
    store.allocate({}, DType::Float32, true, gradients);
    store.initialize(1);
    const bool has = gradients == Gradients::Yes;
    CHECK(parameter.tensor().wants_grad() == has);
    CHECK(parameter.factor().wants_grad() == has);
    CHECK(parameter.gradient().defined() == has);
    if (!has) {
      CHECK_THROWS_AS(store.zero_gradients(), Error);
      CHECK_THROWS_AS(store.named_gradients(), Error);
    }
    return pool->statistics().used_bytes;
  };
  CHECK(used(Gradients::Yes) - used(Gradients::No) >= 400 * 300 * sizeof(float));
}

TEST_CASE("the widened copy of training has the bfloat16 values after every change, where the processor has no bfloat16 instructions") {
  for (const Gradients gradients : {Gradients::Yes, Gradients::No}) {
    ParameterStore store;
    const Parameter& a = store.add("a", Shape{3, 5}, Init::normal());
    const Parameter& b = store.add("b", Shape{70, 2}, Init::normal());
    store.allocate(Device{}, DType::Float32, true, gradients);
    const bool keeps = gradients == Gradients::Yes && !runtime_of(DeviceKind::Cpu).multiplies_bfloat16(0);
    CHECK(store.widened_values().defined() == keeps);
    const auto is_current = [&] {
      for (const Parameter* parameter : {&a, &b}) {
        const Tensor copy = parameter->factor().float32_copy();
        REQUIRE(copy.defined() == keeps);
        if (!keeps) continue;
        CHECK(copy.shape() == parameter->shape());
        CHECK_FALSE(copy.wants_grad());
        CHECK(copy.to_vector<float>() == parameter->factor().to_vector_as<float>());
      }
    };
    store.initialize(3);
    is_current();
    Tensor values = store.values();
    values.from_host(std::vector<float>(static_cast<std::size_t>(values.numel()), 1.5f).data());
    store.values_changed();
    is_current();
    CHECK(b.factor().to_vector_as<float>()[3] == 1.5f);
    Tensor narrow = store.bfloat16_values();
    narrow.from_host(std::vector<bfloat16>(static_cast<std::size_t>(narrow.numel()), bfloat16(2.5f)).data());
    store.values_and_copy_changed();
    is_current();
    CHECK(b.factor().to_vector_as<float>()[3] == 2.5f);
  }
  CHECK_FALSE(zeros(Shape{2}, DType::BFloat16).float32_copy().defined());
  CHECK_THROWS_AS(zeros(Shape{2}, DType::BFloat16).keep_float32_copy(zeros(Shape{3}, DType::Float32)), DTypeError);
  CHECK_THROWS_AS(zeros(Shape{2}, DType::BFloat16).slice(0, 1).keep_float32_copy(zeros(Shape{1}, DType::Float32)), DTypeError);
}

TEST_CASE("the version increases when values change") {
  ParameterStore store;
  store.add("w", Shape{2}, Init::normal());
  store.allocate(Device{});
  const std::uint64_t before = store.version();
  store.initialize(0);
  CHECK(store.version() > before);
  const std::uint64_t initialized = store.version();
  store.zero_gradients();
  CHECK(store.version() == initialized);
  store.values_changed();
  CHECK(store.version() > initialized);
}

}  // namespace mblm::testing
