#include "tests/pair_case.h"

#include <algorithm>

namespace mblm::testing {
namespace {

// The element of a tensor of shape `from` that element i of its broadcast to `to` uses.
std::size_t source_of(std::int64_t i, const Shape& to, const Shape& from) {
  std::int64_t index = 0, stride = 1;
  for (int axis = -1; axis >= -to.rank(); --axis) {
    const std::int64_t at = i % to[axis];
    i /= to[axis];
    if (-axis > from.rank()) continue;
    if (from[axis] > 1) index += at * stride;
    stride *= from[axis];
  }
  return static_cast<std::size_t>(index);
}

Shape broadcast(const Shape& a, const Shape& b) {
  std::vector<std::int64_t> sizes;
  for (int axis = -std::max(a.rank(), b.rank()); axis < 0; ++axis) {
    const std::int64_t from_a = -axis <= a.rank() ? a[axis] : 1, from_b = -axis <= b.rank() ? b[axis] : 1;
    sizes.push_back(from_a == 1 ? from_b : from_a);
  }
  return Shape(std::span<const std::int64_t>(sizes));
}

OpCase make(const PairOp& op, const Shape& a, const Shape& b, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(a, " and ", b, " scale ", scale);
  c.inputs = {{.shape = a, .scale = scale}, op.b};
  c.inputs[1].shape = b;
  c.run = [op](std::span<const Tensor> in) -> std::vector<Tensor> { return {op.run(in[0], in[1])}; };
  c.oracle = [op](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(broadcast(in[0].shape, in[1].shape));
    for (std::int64_t i = 0; i < std::ssize(y.v); ++i)
      y.v[static_cast<std::size_t>(i)] = op.formula(in[0].v[source_of(i, y.shape, in[0].shape)], in[1].v[source_of(i, y.shape, in[1].shape)]);
    return {y};
  };
  return c;
}

// The same tensor as both operands: it has two gradients.
OpCase make_twice(const PairOp& op, const Shape& shape) {
  OpCase c = make(op, shape, shape);
  c.name = concat_text("the same ", shape, " twice");
  c.inputs.erase(c.inputs.begin());
  c.run = [op](std::span<const Tensor> in) -> std::vector<Tensor> { return {op.run(in[0], in[0])}; };
  c.oracle = [oracle = c.oracle](std::span<const HostArray> in) { return oracle(std::vector<HostArray>{in[0], in[0]}); };
  return c;
}

}  // namespace

std::vector<OpCase> pair_cases(const PairOp& op) {
  std::vector<OpCase> all{make_twice(op, Shape{3, 5})};
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}}) all.push_back(make(op, shape, shape));
  all.push_back(with_odd_views(make(op, Shape{3, 40}, Shape{3, 40})));
  all.push_back(make(op, Shape{4, 16}, Shape{4, 16}, 1024.0));
  all.push_back(make(op, Shape{4, 16}, Shape{4, 16}, 1.0 / 1024));
  // A row, rows, a scalar, a column, and one operand that repeats in the middle; widths with and without whole packs; either operand.
  const std::pair<Shape, Shape> repeated[] = {{Shape{3, 5}, Shape{5}},       {Shape{2, 3, 40}, Shape{40}},   {Shape{2, 3, 8}, Shape{3, 8}},
                                              {Shape{2, 33}, Shape{}},         {Shape{4, 16}, Shape{1}},
                                              {Shape{7, 9}, Shape{7, 1}},    {Shape{5, 64}, Shape{5, 1}},     {Shape{3, 4, 8}, Shape{3, 1, 8}},
                                              {Shape{3, 4, 7}, Shape{3, 1, 7}}, {Shape{3, 4, 7}, Shape{1, 4, 1}}};
  for (const auto& [whole, part] : repeated) {
    all.push_back(make(op, whole, part));
    all.push_back(make(op, part, whole));
  }
  all.push_back(with_odd_views(make(op, Shape{3, 40}, Shape{40})));
  all.push_back(with_odd_views(make(op, Shape{3, 1}, Shape{3, 40})));
  // Both operands repeat; axes of size 1 on either side; no elements.
  for (const auto& [a, b] : {std::pair{Shape{5, 1}, Shape{1, 6}}, {Shape{3, 1, 4}, Shape{2, 1}}, {Shape{1, 1, 5}, Shape{5}},
                             {Shape{2, 1, 3, 1}, Shape{4, 1, 5}}, {Shape{0, 8}, Shape{8}}, {Shape{1, 8}, Shape{0, 1}}, {Shape{0, 1}, Shape{0, 4}}})
    all.push_back(make(op, a, b));
  // Sums of the gradients over many elements, in several tiles.
  for (const auto& [a, b] : {std::pair{Shape{1025, 70}, Shape{70}}, {Shape{33, 2055}, Shape{}}, {Shape{130, 520}, Shape{130, 1}},
                             {Shape{3, 300, 130}, Shape{3, 1, 130}}}) {
    all.push_back(make(op, a, b));
    all.back().differences = false;
  }
  all.push_back(make(op, Shape{4, 513, 256}, Shape{4, 513, 256}));
  all.back().benchmark = true;
  all.push_back(make(op, Shape{4, 513, 256}, Shape{256}));
  all.back().benchmark = true;
  all.push_back(make(op, Shape{16384, 1024}, Shape{16384, 1024}));
  all.back().gpu_benchmark = true;
  all.push_back(make(op, Shape{16384, 1024}, Shape{1024}));
  all.back().gpu_benchmark = true;
  return all;
}

}  // namespace mblm::testing
