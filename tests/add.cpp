#include "ops/add.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const Shape& shape, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(shape, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}, {.shape = shape}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {add(in[0], in[1])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = in[0].v[i] + in[1].v[i];
    return {y};
  };
  return c;
}

// The same tensor as both inputs: its gradient is 2 dy.
OpCase make_twice() {
  OpCase c = make(Shape{3, 5});
  c.name = "x + x";
  c.inputs.pop_back();
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {add(in[0], in[0])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = 2 * in[0].v[i];
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all{make_twice()};
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) all.push_back(make(shape));
  all.push_back(with_odd_views(make(Shape{3, 40})));
  all.push_back(make(Shape{4, 16}, 1024.0));
  all.push_back(make(Shape{4, 16}, 1.0 / 1024));
  all.push_back(make(Shape{4, 513, 256}));
  all.back().benchmark = true;
  all.push_back(make(Shape{16384, 1024}));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("add", cases);

}  // namespace
}  // namespace mblm::testing
