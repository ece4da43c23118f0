// Tests that the case list of ssd_scan does not cover: float32 gradients against float64, unused outputs, wrong shapes and dtypes.
#include "ops/ssd_scan.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/elementwise.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// x, dt, A_log, b, c, d, initial of one sequence of 512 tokens, 4 heads of width 16, 16 states.
OpCase long_sequence(double dt, double dt_scale) {
  OpCase c;
  c.name = concat_text("dt=", dt);
  c.inputs = {{.shape = Shape{1, 512, 64}},
              {.shape = Shape{1, 512, 4}, .scale = dt_scale, .offset = dt},
              {.shape = Shape{4}, .values = {0.0, std::log(2.0), std::log(6.0), std::log(16.0)}},
              {.shape = Shape{1, 512, 16}},
              {.shape = Shape{1, 512, 16}},
              {.shape = Shape{4}},
              {.shape = Shape{1, 4, 16, 16}}};
  return c;
}

// Gradients of <1, y>, of <1, final state>, or of their sum.
std::vector<Tensor> gradients(const OpCase& c, DType dtype, bool use_y, bool use_final) {
  std::vector<Tensor> leaves;
  for (const Tensor& x : device_inputs(c, dtype)) leaves.push_back(x.as_leaf());
  Tensor last;
  const Tensor y = ssd_scan(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], leaves[5], leaves[6], &last);
  std::vector<Tensor> outputs, weights;
  if (use_y) outputs.push_back(y);
  if (use_final) outputs.push_back(last);
  for (const Tensor& output : outputs) {
    weights.push_back(empty_like(output));
    fill(weights.back(), 1.0);
  }
  return backward(outputs, weights, leaves);
}

}  // namespace

TEST_CASE("ssd_scan: float32 gradients agree with float64") {
  for (const auto& [dt, scale] : {std::pair{1e-3, 0.0}, {0.05, 0.01}, {6.0, 0.5}}) {
    const OpCase c = long_sequence(dt, scale);
    const std::vector<Tensor> single = gradients(c, DType::Float32, true, true), exact = gradients(c, DType::Float64, true, true);
    for (std::size_t i = 0; i < single.size(); ++i) {
      INFO(c.name, ", input ", i);
      CHECK(relative_error(to_host(single[i]), to_host(exact[i])) <= 1e-5);
    }
  }
}

TEST_CASE("ssd_scan: an unused output adds nothing to the gradients") {
  const OpCase c = long_sequence(0.05, 0.01);
  const std::vector<Tensor> both = gradients(c, DType::Float64, true, true);
  const std::vector<Tensor> of_y = gradients(c, DType::Float64, true, false), of_final = gradients(c, DType::Float64, false, true);
  for (std::size_t i = 0; i < both.size(); ++i) {
    CAPTURE(i);
    Tensor sum = clone(of_y[i]);
    accumulate(sum, of_final[i]);
    CHECK(relative_error(to_host(sum), to_host(both[i])) <= 1e-12);
  }
}

TEST_CASE("ssd_scan: refuses wrong shapes and dtypes") {
  std::vector<Tensor> in = device_inputs(long_sequence(0.05, 0.01), DType::Float32);
  const auto run = [&] { return ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5], in[6]); };
  for (std::size_t i = 0; i < in.size(); ++i) {
    CAPTURE(i);
    const Tensor good = in[i];
    in[i] = zeros(Shape{good.size(0) + 1}, DType::Float32);
    CHECK_THROWS_AS(run(), ShapeError);
    in[i] = zeros(good.shape(), i == 0 ? DType::Int64 : DType::Float64);
    CHECK_THROWS_AS(run(), DTypeError);
    in[i] = good;
  }
  CHECK_NOTHROW(run());
}

}  // namespace mblm::testing
