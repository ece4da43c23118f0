#include "ops/cast.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// Inputs are exact in float32, so a cast between float32 and float64 changes nothing.
OpCase make_cast(const Shape& shape, DType dtype, double scale = 1.0) {
  OpCase c;
  c.name = concat_text("cast ", shape, " to ", dtype, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}};
  c.run = [dtype](std::span<const Tensor> in) -> std::vector<Tensor> { return {cast(in[0], dtype)}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> { return {in[0]}; };
  c.float32_bound = 0;
  c.gradient = dtype == DType::Float64;  // other types would round the points of the differences
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) {
    all.push_back(make_cast(shape, DType::Float64));
    all.push_back(make_cast(shape, DType::Float32));
  }
  return all;
}

const bool added = add_cases("cast", cases);

}  // namespace
}  // namespace mblm::testing
