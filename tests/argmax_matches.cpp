#include "ops/argmax_matches.h"

#include <limits>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

// Counts the logits of a row that the logit of the target does not beat.
std::vector<HostArray> oracle(std::span<const HostArray> in) {
  const HostArray &logits = in[0], &targets = in[1];
  HostArray y(targets.shape);
  const std::int64_t width = logits.shape.last();
  for (std::size_t row = 0; row < targets.v.size(); ++row) {
    const auto target = static_cast<std::int64_t>(targets.v[row]);
    if (target < 0 || target >= width) continue;
    const double* x = logits.v.data() + static_cast<std::int64_t>(row) * width;
    std::int64_t unbeaten = 0;
    for (std::int64_t v = 0; v < width; ++v) unbeaten += v != target && !(v < target ? x[target] > x[v] : x[target] >= x[v]);
    y.v[row] = unbeaten == 0 && x[target] == x[target] ? 1 : 0;
  }
  return {y};
}

OpCase make(const std::string& name, CaseInput logits, CaseInput targets) {
  OpCase c;
  c.name = concat_text(name, " ", logits.shape);
  logits.wide = true;
  c.inputs = {std::move(logits), std::move(targets)};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {argmax_matches(in[0], in[1])}; };
  c.oracle = oracle;
  c.float32_bound = 0;
  c.gradient = false;
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{5}, Shape{3, 1}, Shape{2, 300, 3}, Shape{4, 33}, Shape{0, 8}, Shape{1025, 2}, Shape{1, 20001}})
    all.push_back(make("plain", constant(shape), ids(Shape(std::span(shape.begin(), shape.end() - 1)), shape.last())));
  const auto of_rows = [](const std::string& name, const std::vector<double>& logits, const std::vector<double>& targets) {
    const auto rows = std::ssize(targets);
    CaseInput x = constant(Shape{rows, std::ssize(logits) / rows}), t = ids(Shape{rows}, 1);
    x.values = logits;
    t.values = targets;
    return make(name, x, t);
  };
  all.push_back(of_rows("equals", {1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1}, {0, 1, 1, 2}));
  all.push_back(of_rows("not a number", {nan, 1, 0, nan, 1, 0, 0, 1, nan, 0, nan, 1}, {0, 1, 1, 2}));
  all.push_back(of_rows("infinite", {infinity, 1, infinity, infinity, -infinity, -infinity}, {0, 0}));
  all.push_back(of_rows("targets outside", {1, 1, 1, 1, 1, 1}, {-100, -1, 2}));
  all.push_back(make("measured", constant(Shape{4, 513, 256}), ids(Shape{4, 513}, 256)));
  all.back().benchmark = true;
  return all;
}

const bool added = add_cases("argmax_matches", cases);

}  // namespace
}  // namespace mblm::testing
