#include "tests/sum_case.h"

namespace mblm::testing {
namespace {

// The sums over R of x (O, R, D), as the shape of y.
HostArray summed(const HostArray& x, std::int64_t outer, std::int64_t terms, std::int64_t inner, const Shape& y_shape, bool is_mean) {
  HostArray y(y_shape);
  const double divisor = is_mean ? static_cast<double>(terms) : 1.0;
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t r = 0; r < terms; ++r)
      for (std::int64_t d = 0; d < inner; ++d)
        y.v[static_cast<std::size_t>(o * inner + d)] += x.v[static_cast<std::size_t>((o * terms + r) * inner + d)] / divisor;
  return y;
}

OpCase make(const SumOp& op, const Shape& shape, int axis, bool keep_axis = false, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(shape, " axis ", axis, keep_axis ? " kept" : "", " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale, .offset = 0.25 * scale}};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> { return {op.run(in[0], axis, keep_axis)}; };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> {
    const int at = axis < 0 ? shape.rank() + axis : axis;
    std::int64_t outer = 1, inner = 1;
    std::vector<std::int64_t> sizes;
    for (int i = 0; i < shape.rank(); ++i) {
      if (i < at) outer *= shape[i];
      if (i > at) inner *= shape[i];
      if (i != at) sizes.push_back(shape[i]);
      if (i == at && keep_axis) sizes.push_back(1);
    }
    return {summed(in[0], outer, shape[at], inner, Shape(std::span<const std::int64_t>(sizes)), op.is_mean)};
  };
  return c;
}

OpCase make_all(const SumOp& op, const Shape& shape) {
  OpCase c;
  c.name = concat_text("all of ", shape);
  c.inputs = {{.shape = shape, .offset = 0.25}};
  c.run = [op](std::span<const Tensor> in) -> std::vector<Tensor> { return {op.run_all(in[0])}; };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> { return {summed(in[0], 1, shape.numel(), 1, Shape{}, op.is_mean)}; };
  return c;
}

}  // namespace

std::vector<OpCase> sum_cases(const SumOp& op) {
  std::vector<OpCase> all;
  for (int axis = -3; axis < 3; ++axis) all.push_back(make(op, Shape{3, 5, 7}, axis));
  for (int axis = 0; axis < 3; ++axis) all.push_back(make(op, Shape{2, 4, 8}, axis, true));
  for (const Shape& shape : {Shape{1}, Shape{31}, Shape{33, 1}, Shape{1, 1}, Shape{2, 3, 2, 3, 2}}) all.push_back(make(op, shape, 0));
  all.push_back(make(op, Shape{0, 8}, -1));
  all.push_back(make(op, Shape{3, 0, 5}, 2));
  if (!op.is_mean) all.push_back(make(op, Shape{3, 0, 5}, 1));
  all.push_back(with_odd_views(make(op, Shape{3, 40}, 1)));
  all.push_back(with_odd_views(make(op, Shape{5, 40}, 0)));
  all.push_back(make(op, Shape{4, 16}, 1, false, 1024.0));
  all.push_back(make(op, Shape{4, 16}, 0, false, 1.0 / 1024));
  all.push_back(make_all(op, Shape{}));
  all.push_back(make_all(op, Shape{3, 31}));
  // Sums of several parts; rows and columns with and without whole packs; few and many columns.
  for (const auto& [shape, axis] : {std::pair{Shape{2, 70001}, 1}, {Shape{140000}, 0}, {Shape{66000, 3}, 0}, {Shape{1025, 130}, 0},
                                    {Shape{3, 700, 128}, 1}, {Shape{70, 1500}, 0}, {Shape{300, 64}, 1}, {Shape{1031, 4, 9}, 1},
                                    {Shape{200, 33}, 1}}) {
    all.push_back(make(op, shape, axis));
    all.back().differences = false;
  }
  for (const int axis : {0, 1, 2}) {
    all.push_back(make(op, Shape{4, 513, 256}, axis));
    all.back().benchmark = true;
  }
  for (const int axis : {0, 1}) {
    all.push_back(make(op, Shape{16384, 1024}, axis));
    all.back().gpu_benchmark = true;
  }
  return all;
}

}  // namespace mblm::testing
