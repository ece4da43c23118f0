#include "ops/softplus.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const Shape& shape, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(shape, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}, {.shape = Shape{shape.last()}, .wide = true}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {softplus(in[0], in[1])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) {
      const double x = in[0].v[i] + in[1].v[i % in[1].v.size()];
      y.v[i] = x > 30 ? x + std::exp(-x) : std::log1p(std::exp(x));
    }
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape :
       {Shape{1}, Shape{3, 1}, Shape{2, 3, 31}, Shape{4, 32}, Shape{3, 33}, Shape{0, 8}, Shape{4001, 3}, Shape{1, 20001}, Shape{2, 1023}})
    all.push_back(make(shape));
  all.push_back(with_odd_views(make(Shape{3, 40})));
  all.push_back(make(Shape{4, 16}, 1024.0));
  all.back().gradient = false;  // the steps of finite differences are too large at this scale
  all.push_back(make(Shape{4, 16}, 1.0 / 1024));
  all.push_back(make(Shape{6, 1}));  // far from zero: the left tail is e^x, the right tail is x
  all.back().inputs[0].values = {-80, -20, -10, 20, 80, 200};
  all.back().inputs[1].values = {0};
  all.push_back(make(Shape{4, 513, 512}));
  all.back().benchmark = true;
  all.push_back(make(Shape{65536, 32}));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("softplus", cases);

}  // namespace
}  // namespace mblm::testing
