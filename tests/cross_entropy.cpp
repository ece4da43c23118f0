#include "ops/cross_entropy.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// Returns loss, elements and count. in[2] holds the weights, if any.
std::vector<HostArray> oracle(std::span<const HostArray> in, std::int64_t ignored_id) {
  const HostArray &logits = in[0], &targets = in[1];
  HostArray loss(Shape{}), elements(targets.shape), count(Shape{});
  const std::size_t width = static_cast<std::size_t>(logits.shape.last());
  for (std::size_t row = 0; row < targets.v.size(); ++row) {
    const std::int64_t target = static_cast<std::int64_t>(targets.v[row]);
    if (target == ignored_id || target < 0 || target >= logits.shape.last()) continue;
    const double* x = logits.v.data() + row * width;
    double top = x[0], sum = 0;
    for (std::size_t v = 0; v < width; ++v) top = std::max(top, x[v]);
    for (std::size_t v = 0; v < width; ++v) sum += std::exp(x[v] - top);
    elements.v[row] = (in.size() > 2 ? in[2].v[row] : 1.0) * (std::log(sum) + top - x[target]);
    loss.v[0] += elements.v[row];
    count.v[0] += elements.v[row] != 0 ? 1 : 0;
  }
  if (count.v[0] > 0) loss.v[0] /= count.v[0];
  return {loss, elements, count};
}

// Only the loss, the output with a gradient.
OpCase make(const std::string& name, const Shape& shape, std::int64_t ignored_id = -100, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(name, " ", shape);
  c.inputs = {{.shape = shape, .scale = scale, .wide = true}, ids(Shape(std::span(shape.begin(), shape.end() - 1)), shape.last())};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {cross_entropy(in[0], in[1], ignored_id, in.size() > 2 ? in[2] : Tensor{}).loss};
  };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> { return {oracle(in, ignored_id)[0]}; };
  return c;
}

// With a weight per row; some weights are zero.
OpCase weighted(OpCase c) {
  c.name += " weighted";
  CaseInput weights = constant(c.inputs[1].shape);
  weights.wide = true;
  for (std::int64_t i = 0; i < weights.shape.numel(); ++i) weights.values.push_back(static_cast<double>(i % 4) / 2);
  c.inputs.push_back(weights);
  return c;
}

// All outputs: loss, elements and count, without gradients.
OpCase all_outputs(OpCase c, std::int64_t ignored_id = -100) {
  c.name += " all outputs";
  c.gradient = false;
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    const CrossEntropy result = cross_entropy(in[0], in[1], ignored_id, in.size() > 2 ? in[2] : Tensor{});
    return {result.loss, result.elements, result.count};
  };
  c.oracle = [=](std::span<const HostArray> in) { return oracle(in, ignored_id); };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{5}, Shape{3, 31}, Shape{2, 3, 32}, Shape{4, 33}, Shape{0, 8}, Shape{1025, 3}, Shape{2, 1023}, Shape{1, 20001}}) {
    const OpCase c = make("plain", shape);
    all.insert(all.end(), {c, all_outputs(c), weighted(c), all_outputs(weighted(c))});
  }
  all.push_back(with_odd_views(make("plain", Shape{37, 32})));
  all.push_back(make("width 1", Shape{3, 1}));  // every loss is zero
  const OpCase ignoring = make("ignoring 2", Shape{4, 9, 5}, 2);
  all.insert(all.end(), {ignoring, all_outputs(ignoring, 2), weighted(ignoring)});
  OpCase outside = make("targets outside", Shape{5, 4});
  outside.inputs[1].values = {-100, 3, 4, -1, 0};
  all.insert(all.end(), {outside, all_outputs(outside)});
  OpCase none = make("nothing left", Shape{2, 4}, 1);
  none.inputs[1].values = {1, 1};
  all.insert(all.end(), {none, all_outputs(none, 1)});
  all.push_back(all_outputs(make("large", Shape{7, 65}, -100, 1024.0)));
  all.push_back(make("small", Shape{7, 65}, -100, 1.0 / 1024));
  all.push_back(make("measured", Shape{4, 513, 256}));
  all.back().benchmark = true;
  return all;
}

const bool added = add_cases("cross_entropy", cases);

}  // namespace
}  // namespace mblm::testing
