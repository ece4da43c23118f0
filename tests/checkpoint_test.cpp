// Recomputation, and long graphs.
#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/parameters.h"
#include "engine/pool.h"
#include "tests/error_text.h"
#include "tests/tiny_ops.h"

namespace mblm::testing {
namespace {

using Values = std::vector<double>;
constexpr int many_nodes = 1'000'000;

// x + x + ... : a chain of nodes.
Tensor chain(Tensor x, int length) {
  const Tensor nothing = scalar_of(0);
  for (int i = 0; i < length; ++i) x = tiny_add(x, nothing);
  return x;
}

// A store with one scalar weight of value 3.
struct Weighted {
  ParameterStore store;
  const Parameter* weight = &store.add("weight", Shape{}, Init::constant(3));
  Weighted() {
    store.allocate(Device{}, DType::Float64);
    store.initialize(0);
  }
  double gradient() const { return weight->gradient().item(); }
};

}  // namespace

TEST_CASE("backward and release of a graph of a million nodes") {
  Tensor x = scalar_of(1).as_leaf();
  SUBCASE("backward") {
    const Tensor y = chain(x, many_nodes);
    CHECK(backward(y, std::span(&x, 1))[0].item() == 1);
  }
  SUBCASE("released without backward") {
    Tensor y = chain(x, many_nodes);
    y = {};
    CHECK(x.node().use_count() == 1);
  }
  SUBCASE("released when the lambdas also hold the nodes") {
    Tensor y = x;
    for (int i = 0; i < many_nodes; ++i) y = record("holds", {y}, y.detach(), [y](const Tensor& dy) -> std::vector<Tensor> { return {dy}; });
    y = {};
    CHECK(x.node().use_count() == 1);
  }
  SUBCASE("released when only the lambdas hold the nodes") {
    Tensor y = x;
    for (int i = 0; i < many_nodes; ++i) y = record("captures", {x}, y.detach(), [y](const Tensor& dy) -> std::vector<Tensor> { return {dy}; });
    y = {};
    CHECK(x.node().use_count() == 1);
  }
  SUBCASE("released after an error in the middle") {
    const Tensor broken =
        record("broken", {chain(x, many_nodes / 2)}, scalar_of(0), [](const Tensor&) -> std::vector<Tensor> { throw ValueError("broken"); });
    Tensor y = chain(broken, many_nodes / 2);
    CHECK_THROWS_AS(backward(y), ValueError);
    y = {};
  }
}

TEST_CASE("a checkpoint has the values and gradients of its function") {
  const auto f = [](std::span<const Tensor> in) { return tiny_add(tiny_multiply(in[0], in[1]), in[0]); };
  const Tensor a = vector_of({1, 2}), b = vector_of({3, 4}), dy = vector_of({1, 10});
  const auto run = [&](bool checkpointed, std::vector<Tensor> in, const std::vector<Tensor>& wrt) {
    const Tensor y = checkpointed ? checkpoint("f", in, f) : f(in);
    std::vector<Values> all{y.to_vector<double>()};
    for (const Tensor& gradient : backward(std::span(&y, 1), std::span(&dy, 1), wrt)) all.push_back(gradient.to_vector<double>());
    return all;
  };
  const Tensor la = a.as_leaf(), lb = b.as_leaf();
  CHECK(run(true, {la, lb}, {la, lb}) == run(false, {la, lb}, {la, lb}));
  CHECK(run(true, {a, lb}, {lb}) == run(false, {a, lb}, {lb}));  // an input that requires no gradient
  CHECK(run(true, {la, la}, {la}) == run(false, {la, la}, {la}));
}

TEST_CASE("a checkpoint keeps only its inputs") {
  const auto pool = std::make_shared<MemoryPool>(Device{});
  const PoolScope scope(pool);
  const Tensor x = zeros(Shape{1000}, DType::Float64).as_leaf();
  const auto many = [](std::span<const Tensor> in) {
    Tensor y = in[0];
    for (int i = 0; i < 10; ++i) y = tiny_multiply(y, y);
    return y;
  };
  const std::size_t before = pool->statistics().used_bytes;
  const Tensor y = checkpoint("many", std::span(&x, 1), many);
  CHECK(pool->statistics().used_bytes == 2 * before);  // x and y
}

TEST_CASE("nested checkpoints") {
  int runs = 0;
  const auto inner = [&](std::span<const Tensor> in) {
    ++runs;
    return tiny_multiply(in[0], in[0]);
  };
  const auto outer = [&](std::span<const Tensor> in) {
    const Tensor square = checkpoint("inner", in, inner);
    return checkpoint("inner", std::span(&square, 1), inner);
  };
  const Tensor x = scalar_of(2).as_leaf();
  const Tensor y = checkpoint("outer", std::span(&x, 1), outer);
  CHECK(y.item() == 16);
  CHECK(runs == 2);
  CHECK(backward(y, std::span(&x, 1))[0].item() == 32);
  CHECK(runs == 6);  // two more runs by the outer checkpoint, one by each inner one
}

TEST_CASE("parameters inside a checkpoint receive their gradients") {
  Weighted w;
  const auto f = [&](std::span<const Tensor> in) { return tiny_weigh(in.empty() ? scalar_of(7) : in[0], w.weight->tensor()); };
  SUBCASE("with an input that requires a gradient") {
    const Tensor x = scalar_of(5).as_leaf();
    CHECK(backward(checkpoint("f", std::span(&x, 1), f), std::span(&x, 1))[0].item() == 3);
    CHECK(w.gradient() == 5);
  }
  SUBCASE("without an input that requires a gradient") {
    const Tensor x = scalar_of(5);
    backward(checkpoint("f", std::span(&x, 1), f));
    CHECK(w.gradient() == 5);
  }
  SUBCASE("with an integer input") {
    const Tensor ids = from_values<std::int64_t>(Shape{}, {2});
    const auto embed = [&](std::span<const Tensor> in) { return tiny_weigh(scalar_of(in[0].item()), w.weight->tensor()); };
    backward(checkpoint("embed", std::span(&ids, 1), embed));
    CHECK(w.gradient() == 2);
  }
  SUBCASE("without any input") {
    backward(checkpoint("f", {}, f));
    CHECK(w.gradient() == 7);
  }
  SUBCASE("as an input") {
    const auto square = [](std::span<const Tensor> in) { return tiny_multiply(in[0], in[0]); };
    backward(checkpoint("square", std::span(&w.weight->tensor(), 1), square));
    CHECK(w.gradient() == 6);
  }
  SUBCASE("nested") {
    const Tensor x = scalar_of(5);
    backward(checkpoint("outer", std::span(&x, 1), [&](std::span<const Tensor> in) { return checkpoint("f", in, f); }));
    CHECK(w.gradient() == 5);
  }
}

TEST_CASE("a checkpoint does not lose a gradient") {
  const Tensor x = scalar_of(2).as_leaf(), leaf = scalar_of(5).as_leaf();
  const Tensor other = tiny_add(leaf, leaf);
  const std::string lost = "tiny_multiply: a checkpointed function used a tensor that requires a gradient and is neither an input nor a parameter";
  const Tensor with_leaf = checkpoint("f", std::span(&x, 1), [&](std::span<const Tensor> in) { return tiny_multiply(in[0], leaf); });
  CHECK(error_text<GradientError>([&] { backward(with_leaf); }) == lost);
  const Tensor with_other = checkpoint("f", std::span(&x, 1), [&](std::span<const Tensor> in) { return tiny_multiply(in[0], other); });
  CHECK(error_text<GradientError>([&] { backward(with_other); }) == lost);
}

TEST_CASE("a checkpoint records nothing when recording is off") {
  const Tensor x = scalar_of(2).as_leaf();
  const auto f = [](std::span<const Tensor> in) { return tiny_multiply(in[0], in[0]); };
  const NoGradScope no_grad;
  CHECK_FALSE(checkpoint("f", std::span(&x, 1), f).wants_grad());
}

}  // namespace mblm::testing
