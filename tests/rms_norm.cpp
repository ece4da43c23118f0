#include "ops/rms_norm.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

std::vector<HostArray> oracle(std::span<const HostArray> in, RmsForm form, double eps) {
  const HostArray &x = in[0], &g = in[1];
  HostArray y(x.shape);
  const std::size_t width = g.v.size();
  for (std::size_t row = 0; row * width < x.v.size(); ++row) {
    double square = 0;
    for (std::size_t i = 0; i < width; ++i) square += x.v[row * width + i] * x.v[row * width + i];
    const double mean = square / static_cast<double>(width);
    const double divisor = form == RmsForm::ClampedL2 ? std::max(std::sqrt(mean), eps) : std::sqrt(mean + eps);
    for (std::size_t i = 0; i < width; ++i) y.v[row * width + i] = x.v[row * width + i] / divisor * g.v[i];
  }
  return {y};
}

OpCase make(const std::string& name, const Shape& shape, RmsForm form, double scale = 1.0) {
  const double eps = form == RmsForm::ClampedL2 ? 1e-8 : 1e-5;
  OpCase c;
  c.name = concat_text(name, " ", shape, form == RmsForm::ClampedL2 ? " l2" : " mean square");
  c.inputs = {{.shape = shape, .scale = scale}, {.shape = Shape{shape.last()}, .offset = 1.0, .wide = true}};
  c.run = [form, eps](std::span<const Tensor> in) -> std::vector<Tensor> { return {rms_norm(in[0], in[1], form, eps)}; };
  c.oracle = [form, eps](std::span<const HostArray> in) { return oracle(in, form, eps); };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const RmsForm form : {RmsForm::ClampedL2, RmsForm::MeanSquare}) {
    all.push_back(make("rms_norm", Shape{1, 1}, form));
    all.back().gradient_size = 1;  // y is the sign of x, nearly
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 31}, Shape{4, 32}, Shape{3, 33}, Shape{0, 8}, Shape{1025, 7}, Shape{2, 1023}})
      all.push_back(make("rms_norm", shape, form));
    all.push_back(with_odd_views(make("rms_norm", Shape{3, 40}, form)));
    all.push_back(make("large", Shape{4, 16}, form, 1024.0));
    all.push_back(make("small", Shape{4, 16}, form, 1.0 / 1024));
    // Rows that one, two, four and eight warps of a GPU hold, rows that none do, and more rows than blocks.
    for (const Shape& shape : {Shape{19, 1024}, Shape{3, 1032}, Shape{5, 4096}, Shape{2, 8192}, Shape{2, 8200}, Shape{4113, 8}})
      all.push_back(make("rms_norm", shape, form));
    OpCase measured = make("measured", Shape{4, 513, 256}, form);
    measured.benchmark = true;
    all.push_back(measured);
    all.push_back(make("measured", Shape{16384, 1024}, form));
    all.back().gpu_benchmark = true;
  }
  OpCase clamped = make("clamped", Shape{2, 4}, RmsForm::ClampedL2);  // rows at and below the bound
  clamped.inputs[0].values = {0, 0, 0, 0, 1e-9, -2e-9, 3e-9, 0};
  clamped.gradient = false;  // the steps of finite differences would leave the clamped region
  all.push_back(clamped);
  return all;
}

const bool added = add_cases("rms_norm", cases);

}  // namespace
}  // namespace mblm::testing
