#include "ops/linear.h"

#include <doctest/doctest.h>

#include <random>

#include "cpu/gemm.h"
#include "engine/parallel.h"
#include "engine/parameters.h"
#include "ops/cast.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

Tensor random_tensor(const Shape& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (float& value : values) value = normal(random);
  return from_values<float>(shape, values);
}

// x rounded to bfloat16, in float64.
Tensor rounded(const Tensor& x) {
  const NoGradScope no_grad;
  return cast(cast(x, DType::BFloat16), DType::Float64);
}

struct Result {
  Tensor y, dx, dweight, dbias;
};

Result differentiated(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& dy) {
  const Tensor leaves[] = {x.as_leaf(), weight.as_leaf(), bias.as_leaf()};
  const Tensor y = linear(leaves[0], leaves[1], leaves[2]);
  const std::vector<Tensor> gradients = backward(std::span(&y, 1), std::span(&dy, 1), leaves);
  return {y, gradients[0], gradients[1], gradients[2]};
}

double error(const Tensor& ours, const Tensor& truth) { return relative_error(to_host(ours), to_host(truth)); }

}  // namespace

TEST_CASE("linear: a bfloat16 weight rounds the other factor to bfloat16 and sums in float32") {
  struct {
    std::int64_t rows, in, out;
  } sizes[] = {{1, 1, 1}, {3, 5, 7}, {33, 31, 65}, {1025, 96, 40}, {300, 1023, 33}};
  for (const auto& [rows, in, out] : sizes) {
    CAPTURE(rows);
    const Tensor x = random_tensor(Shape{rows, in}, 1), weight = random_tensor(Shape{out, in}, 2), bias = random_tensor(Shape{out}, 3),
                 dy = random_tensor(Shape{rows, out}, 4);
    const Result ours = differentiated(x, cast(weight, DType::BFloat16), bias, dy);
    const Result truth = differentiated(rounded(x), rounded(weight), cast(bias, DType::Float64), rounded(dy));
    for (const Tensor& tensor : {ours.y, ours.dx, ours.dbias}) CHECK(tensor.dtype() == DType::Float32);
    CHECK(ours.dweight.dtype() == DType::BFloat16);
    CHECK(error(ours.y, truth.y) <= 2e-6);
    CHECK(error(ours.dx, truth.dx) <= 2e-6);
    CHECK(error(ours.dweight, truth.dweight) <= 0x1p-8);
    const Tensor exact_dy = cast(dy, DType::Float64);  // dbias has no product, so dy is not rounded
    CHECK(error(ours.dbias, differentiated(rounded(x), rounded(weight), cast(bias, DType::Float64), exact_dy).dbias) <= 2e-6);
  }
}

TEST_CASE("linear: the gradient of a bfloat16 copy is added to the float32 arena") {
  const auto gradient_after = [](int passes) {
    ParameterStore store;
    Parameter& weight = store.add("weight", Shape{24, 40}, Init::normal());
    store.allocate({}, DType::Float32, true);
    store.initialize(5);
    CHECK(weight.factor().dtype() == DType::BFloat16);
    CHECK(error(weight.factor(), weight.value()) <= 4e-3);
    const Tensor x = random_tensor(Shape{50, 40}, 1), dy = random_tensor(Shape{50, 24}, 2);
    for (int i = 0; i < passes; ++i) {
      const Tensor y = linear(x, weight.factor());
      backward(std::span(&y, 1), std::span(&dy, 1));
    }
    return to_host(weight.gradient());
  };
  HostArray twice = gradient_after(1);
  for (double& value : twice.v) value *= 2;
  CHECK(relative_error(gradient_after(2), twice) <= 1e-6);
}

TEST_CASE("linear: a weight in the arena with a bias outside it, and the reverse") {
  const Tensor x = random_tensor(Shape{7, 5}, 1), dy = random_tensor(Shape{7, 3}, 2);
  for (const bool weight_inside : {true, false}) {
    CAPTURE(weight_inside);
    ParameterStore store;
    Parameter& weight = store.add("weight", Shape{3, 5}, Init::normal());
    Parameter& bias = store.add("bias", Shape{3}, Init::normal());
    store.allocate({}, DType::Float32);
    store.initialize(5);
    const Result alone = differentiated(x, weight.value(), bias.value(), dy);
    for (int pass = 1; pass <= 2; ++pass) {  // the arena adds up; a tensor outside gets the gradient of this pass
      const Tensor leaf = (weight_inside ? bias : weight).value().as_leaf();
      const Tensor y = linear(x, weight_inside ? weight.tensor() : leaf, weight_inside ? leaf : bias.tensor());
      const Tensor outside = backward(std::span(&y, 1), std::span(&dy, 1), std::span(&leaf, 1)).at(0);
      CHECK(error(outside, weight_inside ? alone.dbias : alone.dweight) <= 1e-6);
      HostArray expected = to_host(weight_inside ? alone.dweight : alone.dbias);
      for (double& value : expected.v) value *= pass;
      CHECK(relative_error(to_host((weight_inside ? weight : bias).gradient()), expected) <= 1e-6);
      for (const double value : to_host((weight_inside ? bias : weight).gradient()).v) CHECK(value == 0);
    }
  }
}

TEST_CASE("linear: mixed products have the same bits with 1, 2, 3 and 8 threads") {
  const int before = thread_count();
  const Tensor x = random_tensor(Shape{1030, 130}, 1), weight = cast(random_tensor(Shape{270, 130}, 2), DType::BFloat16), bias = random_tensor(Shape{270}, 3),
               dy = random_tensor(Shape{1030, 270}, 4);
  std::vector<std::vector<double>> first;
  for (const int threads : {1, 2, 3, 8}) {
    CAPTURE(threads);
    set_thread_count(threads);
    const Result r = differentiated(x, weight, bias, dy);
    const std::vector<std::vector<double>> values{to_host(r.y).v, to_host(r.dx).v, to_host(r.dweight).v, to_host(r.dbias).v};
    if (first.empty()) first = values;
    CHECK(values == first);
  }
  set_thread_count(before);
}

TEST_CASE("linear: other combinations of dtypes are refused") {
  const Tensor x = random_tensor(Shape{2, 3}, 1), weight = random_tensor(Shape{4, 3}, 2);
  CHECK_THROWS_AS(linear(cast(x, DType::Float64), weight), DTypeError);
  CHECK_THROWS_AS(linear(cast(x, DType::Float64), cast(weight, DType::BFloat16)), DTypeError);
  CHECK_THROWS_AS(linear(x, cast(weight, DType::Float64)), DTypeError);
  CHECK_THROWS_AS(linear(x, cast(weight, DType::BFloat16), cast(random_tensor(Shape{4}, 3), DType::BFloat16)), DTypeError);
}

TEST_CASE("gemm_bfloat16: the fallback with float32 copies gives the same product") {
  const std::int64_t M = 17, N = 19;
  for (int kind = 0; kind < 16; ++kind) {
    const bool transpose_a = (kind & 1) != 0, transpose_b = (kind & 2) != 0, add = (kind & 4) != 0;
    const std::int64_t K = (kind & 8) != 0 ? 23 : 0;
    CAPTURE(kind);
    const Tensor a = cast(random_tensor(transpose_a ? Shape{K, M} : Shape{M, K}, 1), DType::BFloat16);
    const Tensor b = cast(random_tensor(transpose_b ? Shape{N, K} : Shape{K, N}, 2), DType::BFloat16);
    Tensor ours = random_tensor(Shape{M, N}, 3), wide = clone(ours);
    gemm_bfloat16(transpose_a, transpose_b, M, N, K, a.host_data<bfloat16>(), a.size(1), b.host_data<bfloat16>(), b.size(1), add, ours.host_data<float>(), N);
    widening_gemm(transpose_a, transpose_b, M, N, K, a.host_data<bfloat16>(), a.size(1), b.host_data<bfloat16>(), b.size(1), add, wide.host_data<float>(), N);
    CHECK(error(ours, wide) <= 1e-6);
    if (K == 0) CHECK(error(ours, add ? random_tensor(Shape{M, N}, 3) : zeros(Shape{M, N}, DType::Float32)) == 0);
  }
}

}  // namespace mblm::testing
