#include "ops/cast.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make_scale(const Shape& shape, double factor) {
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

// Inputs are exact in float32, so a cast between float32 and float64 changes nothing.
OpCase make_cast(const Shape& shape, DType dtype, double scale = 1.0) {
  OpCase c;
  c.name = concat_text("cast ", shape, " to ", dtype, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}};
  c.run = [dtype](std::span<const Tensor> in) -> std::vector<Tensor> { return {cast(in[0], dtype)}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> { return {in[0]}; };
  c.float32_bound = 0;
  c.gradient = dtype == DType::Float64;  // the others round the points of the differences
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) {
    all.push_back(make_scale(shape, -0.75));
    all.push_back(make_cast(shape, DType::Float64));
    all.push_back(make_cast(shape, DType::Float32));
  }
  all.push_back(make_scale(Shape{16}, 1024.0));
  all.push_back(make_scale(Shape{4, 513, 256}, 1.0 / 3));
  all.back().benchmark = true;
  return all;
}

const bool added = add_cases("cast", cases);

}  // namespace
}  // namespace mblm::testing
