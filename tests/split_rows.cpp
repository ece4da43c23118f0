#include "ops/split_rows.h"

#include <algorithm>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// Rows [begin, end) of x.
HostArray rows_of(const HostArray& x, std::int64_t begin, std::int64_t end) {
  HostArray y(x.shape.with(0, end - begin));
  const std::int64_t row = x.shape.without_first().numel();
  std::copy(x.v.begin() + begin * row, x.v.begin() + end * row, y.v.begin());
  return y;
}

OpCase make_split(const Shape& shape, std::int64_t rows) {
  OpCase c;
  c.name = concat_text("split_rows ", shape, " by ", rows);
  c.inputs = {{.shape = shape}};
  c.run = [rows](std::span<const Tensor> in) { return split_rows(in[0], rows); };
  c.oracle = [rows](std::span<const HostArray> in) {
    std::vector<HostArray> parts;
    for (std::int64_t begin = 0; begin < in[0].shape[0]; begin += rows) parts.push_back(rows_of(in[0], begin, std::min(begin + rows, in[0].shape[0])));
    return parts;
  };
  return c;
}

// Uses only the second part: the gradient of the other parts is zero.
OpCase make_second(const Shape& shape, std::int64_t rows) {
  OpCase c = make_split(shape, rows);
  c.name += ", the second used";
  c.run = [rows](std::span<const Tensor> in) -> std::vector<Tensor> { return {split_rows(in[0], rows)[1]}; };
  c.oracle = [rows](std::span<const HostArray> in) -> std::vector<HostArray> { return {rows_of(in[0], rows, std::min(2 * rows, in[0].shape[0]))}; };
  return c;
}

std::vector<OpCase> cases() {
  return {make_split(Shape{7}, 7),       make_split(Shape{7}, 3),          make_split(Shape{1, 5}, 4),        make_split(Shape{33, 3, 5}, 11),
          make_split(Shape{9, 2, 0}, 2), make_second(Shape{5, 3, 4}, 2), make_second(Shape{5, 3}, 3), with_odd_views(make_split(Shape{10, 16}, 4))};
}

const bool added = add_cases("split_rows", cases);

}  // namespace
}  // namespace mblm::testing
