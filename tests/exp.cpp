#include "ops/exp.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const Shape& shape, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(shape, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {exp(in[0])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = std::exp(in[0].v[i]);
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) all.push_back(make(shape));
  all.push_back(with_odd_views(make(Shape{3, 40})));
  all.push_back(make(Shape{4, 16}, 1.0 / 1024));
  all.push_back(make(Shape{6}));
  all.back().name = "far out";
  all.back().inputs[0].values = {-40, -1, 0, 1, 6, 20};
  all.back().differences = false;
  all.push_back(make(Shape{4, 513, 1024}));
  all.back().benchmark = true;
  all.push_back(make(Shape{8192, 4096}));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("exp", cases);

}  // namespace
}  // namespace mblm::testing
