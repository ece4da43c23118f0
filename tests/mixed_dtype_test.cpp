// Ops with float32 and bfloat16 inputs and outputs in one call: dtypes, values, gradients and refused combinations.
#include <doctest/doctest.h>

#include <functional>
#include <random>

#include "engine/elementwise.h"
#include "engine/parallel.h"
#include "ops/add.h"
#include "ops/cast.h"
#include "ops/causal_conv1d.h"
#include "ops/cross_entropy.h"
#include "ops/divide.h"
#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/multiply.h"
#include "ops/rms_norm.h"
#include "ops/selective_scan.h"
#include "ops/sequence.h"
#include "ops/softplus.h"
#include "ops/ssd_scan.h"
#include "ops/subtract.h"
#include "tests/error_text.h"
#include "tests/kernel_device.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

constexpr DType f32 = DType::Float32, f64 = DType::Float64, bf16 = DType::BFloat16;

Tensor random_tensor(const Shape& shape, DType dtype, unsigned seed) {
  HostArray x(shape);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0.25, 1.0);
  for (double& value : x.v) value = static_cast<float>(normal(random));
  return cast(from_host(x, f32, kernel_device()), dtype);
}

// Bound of the relative error that float32 arithmetic and the rounding of the result allow.
double bound_of(DType dtype) { return dtype == bf16 ? 0x1p-8 : 2e-6; }

using Op = std::function<Tensor(std::span<const Tensor> inputs, std::optional<DType> y_dtype)>;

struct Result {
  Tensor y;
  std::vector<Tensor> gradients;
};
Result run(const Op& op, std::span<const Tensor> inputs, std::optional<DType> y_dtype, DType dy_dtype) {
  const Device device = inputs[0].device();
  std::vector<Tensor> leaves;
  for (const Tensor& x : inputs) leaves.push_back(x.as_leaf());
  const Tensor y = op(leaves, y_dtype), dy = to_device(cast(random_tensor(y.shape(), bf16, 99), dy_dtype), device);
  return {y, backward(std::span(&y, 1), std::span(&dy, 1), leaves)};
}

// Compares with the same op on the CPU in float64, on the same values. Checks that y has `expected_dtype` and each gradient the dtype of its input.
// `sums_dx`: the gradient of a float32 input is a sum of rounded gradients of a bfloat16 input.
void check_op(const Op& op, const std::vector<Tensor>& inputs, std::optional<DType> y_dtype, DType expected_dtype, bool sums_dx = false) {
  std::vector<Tensor> wide;
  for (const Tensor& x : inputs) wide.push_back(to_device(cast(x, f64), {}));
  const Result ours = run(op, inputs, y_dtype, expected_dtype), truth = run(op, wide, {}, f64);
  CHECK(ours.y.dtype() == expected_dtype);
  CHECK(relative_error(to_host(ours.y), to_host(truth.y)) <= bound_of(expected_dtype));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    CHECK(ours.gradients[i].dtype() == inputs[i].dtype());
    CHECK(relative_error(to_host(ours.gradients[i]), to_host(truth.gradients[i])) <= bound_of(sums_dx ? bf16 : inputs[i].dtype()));
  }
}

struct Norm {
  const char* name;
  Op op;
  int weights;
};
const Norm norms[] = {
    {"layer_norm", [](std::span<const Tensor> in, std::optional<DType> y) { return layer_norm(in[0], in[1], in[2], 1e-5, y); }, 2},
    {"rms_norm l2", [](std::span<const Tensor> in, std::optional<DType> y) { return rms_norm(in[0], in[1], RmsForm::ClampedL2, 1e-8, y); }, 1},
    {"rms_norm mean", [](std::span<const Tensor> in, std::optional<DType> y) { return rms_norm(in[0], in[1], RmsForm::MeanSquare, 1e-5, y); }, 1},
};

// x with its elements moved by 4 away from zero, in its dtype.
Tensor away_from_zero(const Tensor& x) {
  HostArray values = to_host(x);
  for (double& value : values.v) value += value < 0 ? -4 : 4;
  return cast(from_host(values, f32, x.device()), x.dtype());
}

std::vector<Tensor> norm_inputs(const Norm& norm, const Shape& shape, DType dtype) {
  std::vector<Tensor> inputs{random_tensor(shape, dtype, 1)};
  for (int i = 0; i < norm.weights; ++i) inputs.push_back(random_tensor(Shape{shape.last()}, dtype == f64 ? f64 : f32, 2));
  return inputs;
}

}  // namespace

TEST_CASE("ops of two tensors take float32 and bfloat16 in any combination; y has the wider dtype, each gradient the dtype of its input") {
  using Pair = Tensor (*)(const Tensor&, const Tensor&);
  for (const auto& [name, pair] : {std::pair<const char*, Pair>{"add", add}, {"subtract", subtract}, {"multiply", multiply}, {"divide", divide}}) {
    CAPTURE(name);
    const Op op = [pair = pair](std::span<const Tensor> in, std::optional<DType>) { return pair(in[0], in[1]); };
    for (const auto& [a_shape, b_shape] : {std::pair{Shape{}, Shape{}}, {Shape{31}, Shape{31}}, {Shape{0, 4}, Shape{0, 4}},
                                           {Shape{1025, 17}, Shape{1025, 17}}, {Shape{65, 24}, Shape{24}}, {Shape{24}, Shape{65, 24}},
                                           {Shape{9, 8}, Shape{9, 1}}, {Shape{}, Shape{7, 9}}}) {
      CAPTURE(a_shape.numel());
      CAPTURE(b_shape.numel());
      for (const DType a : {f32, bf16})
        for (const DType b : {f32, bf16}) {
          const Tensor second = random_tensor(b_shape, b, 2);
          check_op(op, {random_tensor(a_shape, a, 1), pair == &divide ? away_from_zero(second) : second}, {}, a == bf16 && b == bf16 ? bf16 : f32);
        }
    }
  }
}

TEST_CASE("norms: float32 and bfloat16 inputs and outputs with float32 weights") {
  for (const Norm& norm : norms) {
    CAPTURE(norm.name);
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 31}, Shape{0, 8}, Shape{1025, 17}, Shape{2, 1023}}) {
      CAPTURE(shape.numel());
      for (const DType x : {f32, bf16})
        for (const DType y : {f32, bf16}) check_op(norm.op, norm_inputs(norm, shape, x), y, y);
      check_op(norm.op, norm_inputs(norm, shape, bf16), {}, bf16);
      if (kernel_device() == Device{}) check_op(norm.op, norm_inputs(norm, shape, f64), {}, f64);
    }
  }
}

TEST_CASE("norms: a bfloat16 output is the float32 output, rounded") {
  const NoGradScope no_grad;
  for (const Norm& norm : norms) {
    CAPTURE(norm.name);
    for (const DType x : {f32, bf16}) {
      const std::vector<Tensor> inputs = norm_inputs(norm, Shape{33, 70}, x);
      CHECK(to_host(norm.op(inputs, bf16)).v == to_host(cast(norm.op(inputs, f32), bf16)).v);
    }
  }
}

TEST_CASE("norms: bfloat16 gradients have the same bits with 1, 2, 3 and 8 threads") {
  const int before = thread_count();
  for (const Norm& norm : norms) {
    CAPTURE(norm.name);
    const std::vector<Tensor> inputs = norm_inputs(norm, Shape{1030, 130}, bf16);
    std::vector<std::vector<double>> first;
    for (const int threads : {1, 2, 3, 8}) {
      set_thread_count(threads);
      const Result r = run(norm.op, inputs, bf16, bf16);
      std::vector<std::vector<double>> values{to_host(r.y).v};
      for (const Tensor& gradient : r.gradients) values.push_back(to_host(gradient).v);
      if (first.empty()) first = values;
      CHECK(values == first);
    }
  }
  set_thread_count(before);
}

TEST_CASE("embedding: float32 and bfloat16 tables and outputs in any combination") {
  const Tensor ids = from_values<std::int64_t>(Shape{2, 3}, {4, 0, 4, 1, 2, 4});
  const Op op = [&](std::span<const Tensor> in, std::optional<DType> y) { return embedding(to_device(ids, in[0].device()), in[0], 1, y); };
  for (const DType table : {f32, bf16})
    for (const DType y : {f32, bf16}) check_op(op, {random_tensor(Shape{5, 33}, table, 1)}, y, y);
}

TEST_CASE("softplus: float32 and bfloat16 inputs and biases in any combination; y has the dtype of the bias") {
  const Op op = [](std::span<const Tensor> in, std::optional<DType>) { return softplus(in[0], in[1]); };
  for (const DType x : {f32, bf16})
    for (const DType bias : {f32, bf16}) check_op(op, {random_tensor(Shape{130, 33}, x, 1), random_tensor(Shape{33}, bias, 2)}, {}, bias, x == bf16);
}

TEST_CASE("stage_input: float32 and bfloat16 inputs in any combination; y is float32") {
  const Op op = [](std::span<const Tensor> in, std::optional<DType>) { return stage_input(in[0], in[1], in[2], in[3]); };
  for (int kinds = 0; kinds < 16; ++kinds) {
    const auto dtype = [&](int input) { return ((kinds >> input) & 1) != 0 ? bf16 : f32; };
    check_op(op, {random_tensor(Shape{31}, dtype(0), 1), random_tensor(Shape{5, 4, 31}, dtype(1), 2), random_tensor(Shape{6, 31}, dtype(2), 3),
                  random_tensor(Shape{5, 4, 31}, dtype(3), 4)},
             {}, f32);
  }
}

TEST_CASE("linear: bfloat16 weights, and an output dtype that the caller chooses") {
  const Op op = [](std::span<const Tensor> in, std::optional<DType> y) { return linear(in[0], in[1], {}, y); };
  const Tensor x = random_tensor(Shape{33, 31}, bf16, 1), weight = random_tensor(Shape{17, 31}, bf16, 2);
  check_op(op, {x, weight}, {}, bf16);
  check_op(op, {x, weight}, f32, f32);
  check_op(op, {cast(x, f32), weight}, bf16, bf16);
}

TEST_CASE("accumulate, fill and convert take bfloat16") {
  for (const DType s : {f32, bf16}) {
    for (const DType x : {f32, bf16}) {
      Tensor sum = random_tensor(Shape{1025, 17}, s, 1);
      const Tensor added = random_tensor(Shape{1025, 17}, x, 2), expected = cast(add(to_device(cast(sum, f64), {}), to_device(cast(added, f64), {})), s);
      accumulate(sum, added);
      CHECK(relative_error(to_host(sum), to_host(expected)) <= (s == bf16 ? 0x1p-16 : 1e-7));  // bfloat16: equal except for double rounding
    }
  }
  Tensor x = zeros(Shape{1025}, bf16, kernel_device());
  fill(x, 1.0 / 3);
  CHECK(to_host(x).v == std::vector<double>(1025, static_cast<float>(bfloat16(1.0f / 3))));
  const Tensor wide = random_tensor(Shape{1025}, bf16, 3);
  convert(cast(wide, f64), x);
  CHECK(to_host(x).v == to_host(wide).v);
  convert(wide, x);
  CHECK(to_host(x).v == to_host(wide).v);
}

TEST_CASE("float64 does not mix with float32 or bfloat16") {
  const Tensor x = zeros(Shape{2, 3}, f32), wide = zeros(Shape{2, 3}, f64), row = zeros(Shape{3}, f32), wide_row = zeros(Shape{3}, f64);
  Tensor sum = zeros(Shape{2, 3}, f32);
  CHECK(error_text<DTypeError>([&] { add(x, wide); }) == "add: expected b of float32 or bfloat16, got float64");
  CHECK(error_text<DTypeError>([&] { add(wide, cast(x, bf16)); }) == "add: expected b of float64, got bfloat16");
  CHECK(error_text<DTypeError>([&] { subtract(x, wide); }) == "subtract: expected b of float32 or bfloat16, got float64");
  CHECK(error_text<DTypeError>([&] { multiply(wide, x); }) == "multiply: expected b of float64, got float32");
  CHECK_THROWS_AS(divide(x, wide_row), DTypeError);
  CHECK(error_text<DTypeError>([&] { accumulate(sum, wide); }) ==
        "accumulate: expected float64 for both tensors or for neither, got float32 and float64");
  CHECK(error_text<DTypeError>([&] { rms_norm(x, wide_row, RmsForm::MeanSquare, 1e-5); }) == "rms_norm: expected weight of float32, got float64");
  CHECK(error_text<DTypeError>([&] { rms_norm(x, row, RmsForm::MeanSquare, 1e-5, f64); }) ==
        "rms_norm: expected an output of float32 or bfloat16, got float64");
  CHECK_THROWS_AS(rms_norm(wide, wide_row, RmsForm::MeanSquare, 1e-5, f32), DTypeError);
  CHECK_THROWS_AS(layer_norm(wide, wide_row, row), DTypeError);
  CHECK_THROWS_AS(layer_norm(x, row, row, 1e-5, f64), DTypeError);
  CHECK_THROWS_AS(softplus(x, wide_row), DTypeError);
  CHECK_THROWS_AS(linear(x, x, {}, f64), DTypeError);
  CHECK_THROWS_AS(linear(wide, wide, {}, bf16), DTypeError);
  CHECK_THROWS_AS(embedding(zeros(Shape{1}, DType::Int64), wide, -1, bf16), DTypeError);
  CHECK_THROWS_AS(causal_conv1d_silu(zeros(Shape{1, 2, 3}, f32), zeros(Shape{3, 1, 4}, f64), wide_row), DTypeError);
}

TEST_CASE("an op or a kernel refuses dtypes that it does not take") {
  const Tensor x = zeros(Shape{2, 3}, bf16), row = zeros(Shape{3}, bf16);
  CHECK(error_text<DTypeError>([&] { layer_norm(x, row, row); }) == "layer_norm: expected weight of float32, got bfloat16");
  CHECK_THROWS_AS(rms_norm(x, row, RmsForm::MeanSquare, 1e-5), DTypeError);
  CHECK(error_text<DTypeError>([&] { cross_entropy(x, zeros(Shape{2}, DType::Int64), -1); }) ==
        "cross_entropy: expected logits of float32 or float64, got bfloat16");
  CHECK(error_text<DTypeError>([&] { causal_conv1d_silu(zeros(Shape{1, 2, 3}, bf16), zeros(Shape{3, 1, 4}, bf16), row); }) ==
        "causal_conv1d_silu: expected weight of float32, got bfloat16");
  CHECK_THROWS_AS(linear(x, cast(x, f32)), DTypeError);
}

TEST_CASE("scans: dt, A_log and D must be float32 with bfloat16 x, b and c") {
  const Tensor x = zeros(Shape{1, 2, 3}, bf16), b = zeros(Shape{1, 2, 4}, bf16), dt = zeros(Shape{1, 2, 3}, f32), d = zeros(Shape{3}, f32);
  const Tensor a_log = zeros(Shape{3, 4}, f32);
  CHECK(ssd_scan(x, dt, d, b, b, d).dtype() == bf16);
  CHECK(error_text<DTypeError>([&] { ssd_scan(x, cast(dt, bf16), d, b, b, d); }) == "ssd_scan: expected dt of float32, got bfloat16");
  CHECK(selective_scan(x, dt, a_log, b, b, d).dtype() == bf16);
  CHECK(error_text<DTypeError>([&] { selective_scan(x, dt, a_log, cast(b, f32), b, d); }) == "selective_scan: expected b of bfloat16, got float32");
}

}  // namespace mblm::testing
