#include "ops/gelu.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const Shape& shape, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(shape, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {gelu(in[0])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = 0.5 * in[0].v[i] * std::erfc(-in[0].v[i] / std::sqrt(2.0));
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) all.push_back(make(shape));
  all.push_back(make(Shape{4, 16}, 1024.0));
  all.back().gradient = false;  // the steps of finite differences are too large at this scale
  all.push_back(make(Shape{4, 16}, 1.0 / 1024));
  all.push_back(make(Shape{5}));
  all.back().name = "far out";
  all.back().inputs[0].values = {-40, -6, 0, 6, 40};
  all.push_back(make(Shape{4, 513, 1024}));
  all.back().benchmark = true;
  all.push_back(make(Shape{8192, 4096}));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("gelu", cases);

}  // namespace
}  // namespace mblm::testing
