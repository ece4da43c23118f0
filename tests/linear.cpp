#include "ops/linear.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const std::string& name, const Shape& x, std::int64_t outputs, bool bias, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(name, " ", x, " -> ", outputs, bias ? " bias" : "");
  c.inputs = {{.shape = x, .scale = scale}, {.shape = Shape{outputs, x.last()}}};
  if (bias) c.inputs.push_back({.shape = Shape{outputs}, .wide = true});
  c.run = [bias](std::span<const Tensor> in) -> std::vector<Tensor> { return {linear(in[0], in[1], bias ? in[2] : Tensor{})}; };
  c.oracle = [x, outputs, bias](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(x.with(-1, outputs));
    const std::size_t N = static_cast<std::size_t>(outputs), K = static_cast<std::size_t>(x.last());
    for (std::size_t i = 0; i < y.v.size(); ++i) {
      y.v[i] = bias ? in[2].v[i % N] : 0.0;
      for (std::size_t k = 0; k < K; ++k) y.v[i] += in[0].v[i / N * K + k] * in[1].v[i % N * K + k];
    }
    return {y};
  };
  c.flops = 2.0 * static_cast<double>(x.numel() * outputs);
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const bool bias : {false, true}) {
    for (const Shape& x : {Shape{1}, Shape{5}, Shape{3, 31}, Shape{2, 3, 32}, Shape{33, 1}, Shape{0, 8}, Shape{1025, 7}})
      all.push_back(make("linear", x, 6, bias));
    all.push_back(make("one output", Shape{65, 9}, 1, bias));
    all.push_back(make("wide", Shape{2, 9}, 1023, bias));
    all.push_back(make("large", Shape{4, 16}, 5, bias, 1024.0));
    all.push_back(make("small", Shape{4, 16}, 5, bias, 1.0 / 1024));
    OpCase measured = make("measured", Shape{4, 513, 256}, bias ? 512 : 768, bias);
    measured.benchmark = true;
    measured.oracle = nullptr;
    all.push_back(measured);
  }
  all.push_back(make("wide bias", Shape{3, 2}, 9000, true));
  return all;
}

const bool added = add_cases("linear", cases);

}  // namespace
}  // namespace mblm::testing
