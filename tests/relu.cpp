#include "ops/relu.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const Shape& shape, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(shape, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {relu(in[0])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = in[0].v[i] > 0 ? in[0].v[i] : 0;
    return {y};
  };
  return c;
}

// Differences do not see the kink at 0: the inputs lie at least 0.1 from it.
OpCase away_from_zero(const Shape& shape, double scale = 1.0) {
  OpCase c = make(shape, scale);
  HostArray x = host_inputs(c)[0];
  for (double& v : x.v) v += v > 0 ? 0.125 * scale : -0.125 * scale;
  c.inputs[0].values = x.v;
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) all.push_back(away_from_zero(shape));
  all.push_back(with_odd_views(away_from_zero(Shape{3, 40})));
  all.push_back(away_from_zero(Shape{4, 16}, 1024.0));
  all.push_back(away_from_zero(Shape{4, 513, 1024}));
  all.back().benchmark = true;
  all.push_back(make(Shape{8192, 4096}));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("relu", cases);

}  // namespace
}  // namespace mblm::testing
