#include "ops/scale.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const Shape& shape, double factor) {
  OpCase c;
  c.name = concat_text("scale ", shape, " by ", factor);
  c.inputs = {{.shape = shape}};
  c.run = [factor](std::span<const Tensor> in) -> std::vector<Tensor> { return {scale(in[0], factor)}; };
  c.oracle = [factor](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = factor * in[0].v[i];
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) all.push_back(make(shape, -0.75));
  all.push_back(make(Shape{16}, 1024.0));
  all.push_back(make(Shape{4, 513, 256}, 1.0 / 3));
  all.back().benchmark = true;
  return all;
}

const bool added = add_cases("scale", cases);

}  // namespace
}  // namespace mblm::testing
