#include "ops/silu.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

double silu_of(double x) { return x / (1 + std::exp(-x)); }

OpCase make(const Shape& shape, double scale = 1.0) {
  OpCase c;
  c.name = concat_text("silu ", shape, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {silu(in[0])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = silu_of(in[0].v[i]);
    return {y};
  };
  c.gradient = scale < 100;  // the steps of finite differences are too large at a large scale
  return c;
}

OpCase make_gate(const Shape& shape, double scale = 1.0) {
  OpCase c = make(shape, scale);
  c.name = concat_text("silu_gate ", shape, " scale ", scale);
  c.inputs.push_back(c.inputs[0]);
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {silu_gate(in[0], in[1])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = in[0].v[i] * silu_of(in[1].v[i]);
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (OpCase (*const make_case)(const Shape&, double) : {make, make_gate}) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) all.push_back(make_case(shape, 1.0));
    all.push_back(with_odd_views(make_case(Shape{3, 40}, 1.0)));
    all.push_back(make_case(Shape{4, 16}, 1024.0));
    all.push_back(make_case(Shape{4, 16}, 1.0 / 1024));
    all.push_back(make_case(Shape{4, 513, 512}, 1.0));
    all.back().benchmark = true;
    all.push_back(make_case(Shape{8192, 2048}, 1.0));
    all.back().gpu_benchmark = true;
  }
  return all;
}

const bool added = add_cases("silu", cases);

}  // namespace
}  // namespace mblm::testing
