// Recording, the backward pass, and the accumulation of gradients.
#include "engine/autograd.h"

#include <doctest/doctest.h>

#include <thread>

#include "engine/parameters.h"
#include "tests/error_text.h"
#include "tests/tiny_ops.h"

namespace mblm::testing {
namespace {

using Values = std::vector<double>;

std::vector<Tensor> gradients(const Tensor& y, const Values& dy, std::vector<Tensor> wrt) {
  const Tensor dout = from_values<double>(y.shape(), dy);
  return backward(std::span(&y, 1), std::span(&dout, 1), wrt);
}

// (first, second) = (2 x, 3 x). `defined` records which outputs have gradients.
std::vector<Tensor> two_outputs(const Tensor& x, std::vector<bool>& defined) {
  const auto scaled = [](const Tensor& v, double factor) { return combine(v, v, [factor](double a, double) { return factor * a; }); };
  return record_many("two_outputs", {x}, {scaled(x, 2), scaled(x, 3)}, [&defined, scaled](std::span<const Tensor> dys) -> std::vector<Tensor> {
    Tensor dx = zeros(Shape{2}, DType::Float64);
    for (std::size_t k = 0; k < 2; ++k) {
      defined.push_back(dys[k].defined());
      if (dys[k].defined()) dx = combine(dx, scaled(dys[k], k == 0 ? 2 : 3), [](double a, double b) { return a + b; });
    }
    return {dx};
  });
}

}  // namespace

TEST_CASE("gradients of products and sums") {
  const Tensor a = vector_of({1, 2}).as_leaf(), b = vector_of({3, 5}).as_leaf();
  const Tensor y = tiny_add(tiny_multiply(a, b), a);
  CHECK(y.to_vector<double>() == Values{4, 12});
  const std::vector<Tensor> found = gradients(y, {1, 10}, {a, b});
  CHECK(found[0].to_vector<double>() == Values{4, 60});
  CHECK(found[1].to_vector<double>() == Values{1, 20});
}

TEST_CASE("the gradients of several uses of a tensor are summed") {
  const Tensor x = vector_of({3}).as_leaf();
  const Tensor square = tiny_multiply(x, x);
  const Tensor y = tiny_add(tiny_multiply(square, x), tiny_add(square, square));  // x^3 + 2 x^2
  CHECK(gradients(y, {1}, {x})[0].to_vector<double>() == Values{27 + 12});
}

TEST_CASE("unused outputs have no gradient") {
  std::vector<bool> defined;
  const Tensor x = vector_of({1, 2}).as_leaf();
  const std::vector<Tensor> outputs = two_outputs(x, defined);
  SUBCASE("only the second one is used") {
    CHECK(gradients(tiny_add(outputs[1], outputs[1]), {1, 1}, {x})[0].to_vector<double>() == Values{6, 6});
    CHECK(defined == std::vector<bool>{false, true});
  }
  SUBCASE("both are used") {
    CHECK(gradients(tiny_add(outputs[1], outputs[0]), {1, 1}, {x})[0].to_vector<double>() == Values{5, 5});
    CHECK(defined == std::vector<bool>{true, true});
  }
  SUBCASE("both are outputs of the graph") {
    const std::vector<Tensor> douts{vector_of({1, 0}), vector_of({0, 1})};
    CHECK(backward(outputs, douts, std::span(&x, 1))[0].to_vector<double>() == Values{2, 3});
  }
}

TEST_CASE("a gradient shared by two inputs is not modified in place") {
  const Tensor a = vector_of({1}).as_leaf(), b = vector_of({2}).as_leaf();
  // The residual sum gives the same dy to u and v; u then receives a second gradient through the product.
  const Tensor u = tiny_multiply(a, vector_of({1})), v = tiny_multiply(b, vector_of({1}));
  const Tensor product = tiny_multiply(u, vector_of({10}));
  const Tensor y = tiny_add(tiny_add(u, v), product);
  const Tensor dy = vector_of({1});
  const std::vector<Tensor> leaves{a, b};
  const std::vector<Tensor> found = backward(std::span(&y, 1), std::span(&dy, 1), leaves);
  CHECK(found[0].item() == 11);
  CHECK(found[1].item() == 1);
  CHECK(dy.item() == 1);
}

TEST_CASE("leaves that the output does not depend on have zero gradients") {
  const Tensor x = vector_of({1, 2}).as_leaf(), other = vector_of({5, 6, 7}).as_leaf();
  CHECK(gradients(tiny_add(x, x), {1, 1}, {other})[0].to_vector<double>() == Values{0, 0, 0});
  CHECK(gradients(x, {4, 5}, {x})[0].to_vector<double>() == Values{4, 5});  // a leaf as output
}

TEST_CASE("views propagate gradients") {
  const Tensor x = from_values<double>(Shape{3, 2}, {1, 2, 3, 4, 5, 6}).as_leaf();
  const Tensor y = tiny_add(x.slice(0, 2).reshape(Shape{4}), x.slice(1, 3).reshape(Shape{4}));
  const Tensor dx = gradients(y, {1, 2, 3, 4}, {x})[0];
  CHECK(dx.shape() == Shape{3, 2});
  CHECK(dx.to_vector<double>() == Values{1, 2, 4, 6, 3, 4});
}

TEST_CASE("the gradient of a scalar output is the scale") {
  const Tensor x = scalar_of(3).as_leaf();
  CHECK(backward(tiny_multiply(x, x), std::span(&x, 1))[0].item() == 6);
  CHECK(backward(tiny_multiply(x, x), std::span(&x, 1), 0.5)[0].item() == 3);
  CHECK_THROWS_AS(backward(vector_of({1, 2}).as_leaf()), ShapeError);
  CHECK(error_text<GradientError>([] { backward(scalar_of(1)); }) == "backward: the loss does not depend on a tensor that requires a gradient");
}

TEST_CASE("ops are recorded only when an input requires a gradient and recording is on") {
  const Tensor x = vector_of({1}).as_leaf(), constant = vector_of({2});
  CHECK(tiny_add(x, constant).wants_grad());
  CHECK_FALSE(tiny_add(constant, constant).wants_grad());
  CHECK_FALSE(x.detach().wants_grad());
  CHECK(is_recording());
  {
    const NoGradScope outer;
    { const NoGradScope inner; }
    CHECK_FALSE(is_recording());
    CHECK_FALSE(tiny_add(x, x).wants_grad());
    CHECK_FALSE(any_wants_grad({x}));
    refuse_gradient("op", {x});
    std::thread([] { CHECK(is_recording()); }).join();  // the scope affects only its thread
  }
  CHECK(is_recording());
  CHECK(any_wants_grad({constant, x}));
  CHECK(error_text<GradientError>([&] { refuse_gradient("op", {constant, x}); }) == "op: has no gradient, but an input requires one");
}

TEST_CASE("a graph supports one backward pass") {
  const Tensor x = scalar_of(3).as_leaf();
  const Tensor shared = tiny_multiply(x, x);
  const Tensor y = tiny_add(shared, x), z = tiny_add(shared, x);
  backward(y);
  CHECK(error_text<GradientError>([&] { backward(y); }) == "tiny_add: the graph was already consumed by a backward pass");
  CHECK(error_text<GradientError>([&] { backward(z); }) == "tiny_multiply: the graph was already consumed by a backward pass");
}

TEST_CASE("tensors kept by an op are released right after its backward") {
  const Tensor x = vector_of({1, 2}).as_leaf();
  const Tensor kept = vector_of({1, 1});
  const Tensor y = record("keeps", {x}, vector_of({0, 0}), [kept](const Tensor& dy) -> std::vector<Tensor> { return {dy}; });
  CHECK_FALSE(kept.storage_is_unshared());
  gradients(y, {1, 1}, {x});
  CHECK(kept.storage_is_unshared());
}

TEST_CASE("missing gradients and gradients of the wrong shape are errors") {
  const Tensor x = vector_of({1, 2}).as_leaf(), constant = vector_of({1, 2});
  const auto returns = [&](std::vector<Tensor> dxs) { return record("bad", {x, constant}, vector_of({0, 0}), [dxs](const Tensor&) { return dxs; }); };
  const auto message = [&](std::vector<Tensor> dxs) { return error_text<Error>([&] { gradients(returns(dxs), {1, 1}, {x}); }); };
  CHECK(message({Tensor{}, Tensor{}}) == "bad: no gradient for input 0");
  CHECK(message({vector_of({1, 1})}) == "bad: expected 2 gradients, got 1");
  CHECK(message({vector_of({1, 1, 1}), Tensor{}}) == "bad: expected a gradient of shape (2), got (3)");
  CHECK(message({vector_of({1, 1}), Tensor{}}) == "no error");  // the constant requires no gradient
  CHECK_THROWS_AS(gradients(tiny_add(x, x), {1, 1}, {constant}), GradientError);
  CHECK_THROWS_AS(gradients(tiny_add(x, x), {1, 1}, {tiny_add(x, x)}), GradientError);
  const Tensor y = tiny_add(x, x), narrow = vector_of({1}), undefined;
  CHECK_THROWS_AS(backward(std::span(&y, 1), std::span(&narrow, 1)), ShapeError);
  CHECK_THROWS_AS(backward(std::span(&y, 1), std::span(&undefined, 1)), GradientError);
  CHECK_THROWS_AS(backward(std::span(&y, 1), std::span<const Tensor>()), GradientError);
}

TEST_CASE("gradients of parameters are added to the arena") {
  ParameterStore store;
  const Parameter& weight = store.add("weight", Shape{2}, Init::constant(3));
  store.allocate(Device{}, DType::Float64);
  store.initialize(0);
  const Tensor x = vector_of({10, 20}).as_leaf();
  SUBCASE("through the slot, with beta") {
    const GradSlot slot = grad_slot(weight.tensor());
    CHECK(slot.beta == 1);
    CHECK(slot.tensor.same_storage(store.gradients()));
    const Tensor y = tiny_add(tiny_weigh(x, weight.tensor()), tiny_weigh(x, weight.tensor()));
    CHECK(gradients(y, {1, 1}, {x})[0].to_vector<double>() == Values{6, 6});
    CHECK(weight.gradient().to_vector<double>() == Values{20, 40});
    gradients(tiny_weigh(x, weight.tensor()), {1, 1}, {});
    CHECK(weight.gradient().to_vector<double>() == Values{30, 60});
    store.zero_gradients();
    CHECK(weight.gradient().to_vector<double>() == Values{0, 0});
  }
  SUBCASE("as a plain tensor, and through a view") {
    gradients(tiny_multiply(x, weight.tensor()), {1, 1}, {});
    gradients(tiny_multiply(x.reshape(Shape{2, 1}), weight.tensor().reshape(Shape{2, 1})), {1, 1}, {});
    CHECK(weight.gradient().to_vector<double>() == Values{20, 40});
  }
  SUBCASE("returning the arena view is an error") {
    const Tensor y =
        record("adds_twice", {weight.tensor()}, vector_of({0, 0}), [&](const Tensor&) -> std::vector<Tensor> { return {weight.gradient()}; });
    CHECK_THROWS_AS(gradients(y, {1, 1}, {}), GradientError);
  }
  SUBCASE("requesting the gradient of a parameter is an error") { CHECK_THROWS_AS(gradients(tiny_multiply(x, weight.tensor()), {1, 1}, {weight.tensor()}), GradientError); }
}

TEST_CASE("the gradient slot of a tensor that is not a parameter is a new tensor") {
  const Tensor x = vector_of({2, 3}).as_leaf(), weight = vector_of({5, 7}).as_leaf();
  CHECK(grad_slot(weight).beta == 0);
  CHECK(grad_slot(vector_of({1})).beta == 0);
  const std::vector<Tensor> found = gradients(tiny_weigh(x, weight), {1, 1}, {x, weight});
  CHECK(found[0].to_vector<double>() == Values{5, 7});
  CHECK(found[1].to_vector<double>() == Values{2, 3});
}

}  // namespace mblm::testing
