#include "ops/columns.h"

#include <numeric>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

using Widths = std::vector<std::int64_t>;

// Columns [begin, begin + width) of x.
HostArray columns_of(const HostArray& x, std::int64_t begin, std::int64_t width) {
  HostArray y(x.shape.with(-1, width));
  for (std::int64_t row = 0; row < y.shape.rows(); ++row)
    for (std::int64_t i = 0; i < width; ++i)
      y.v[static_cast<std::size_t>(row * width + i)] = x.v[static_cast<std::size_t>(row * x.shape.last() + begin + i)];
  return y;
}

OpCase make_split(const Shape& shape, const Widths& widths) {
  OpCase c;
  c.name = concat_text("split_columns ", shape, " into ", widths.size());
  c.inputs = {{.shape = shape}};
  c.run = [widths](std::span<const Tensor> in) { return split_columns(in[0], widths); };
  c.oracle = [widths](std::span<const HostArray> in) {
    std::vector<HostArray> parts;
    std::int64_t begin = 0;
    for (const std::int64_t width : widths) {
      parts.push_back(columns_of(in[0], begin, width));
      begin += width;
    }
    return parts;
  };
  return c;
}

// Uses only the second part: the gradient of the other parts is zero.
OpCase make_second(const Shape& shape, const Widths& widths) {
  OpCase c = make_split(shape, widths);
  c.name += ", the second used";
  c.run = [widths](std::span<const Tensor> in) -> std::vector<Tensor> { return {split_columns(in[0], widths)[1]}; };
  c.oracle = [widths](std::span<const HostArray> in) -> std::vector<HostArray> { return {columns_of(in[0], widths[0], widths[1])}; };
  return c;
}

OpCase make_concat(const Shape& shape, const Widths& widths) {
  OpCase c;
  c.name = concat_text("concat_columns ", shape, " of ", widths.size());
  for (const std::int64_t width : widths) c.inputs.push_back({.shape = shape.with(-1, width)});
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {concat_columns(in)}; };
  c.oracle = [shape, widths](std::span<const HostArray> in) -> std::vector<HostArray> {
    const std::int64_t total = std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
    HostArray y(shape.with(-1, total));
    for (std::int64_t row = 0; row < shape.rows(); ++row)
      for (std::int64_t k = 0, column = 0; k < std::ssize(widths); column += widths[static_cast<std::size_t>(k++)])
        for (std::int64_t i = 0, width = widths[static_cast<std::size_t>(k)]; i < width; ++i)
          y.v[static_cast<std::size_t>(row * total + column + i)] = in[static_cast<std::size_t>(k)].v[static_cast<std::size_t>(row * width + i)];
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all{make_split(Shape{7}, {7}),
                          make_split(Shape{33, 65}, {1, 31, 33}),
                          make_split(Shape{2, 3, 5}, {2, 0, 3}),
                          make_split(Shape{0, 6}, {4, 2}),
                          make_split(Shape{1025, 3}, {2, 1}),
                          make_split(Shape{1, 20001}, {20000, 1}),
                          make_second(Shape{3, 4, 9}, {2, 3, 4}),
                          make_concat(Shape{1}, {3}),
                          make_concat(Shape{33, 1}, {1, 31, 33}),
                          make_concat(Shape{2, 3, 1}, {2, 0, 3}),
                          make_concat(Shape{0, 1}, {4, 2}),
                          make_concat(Shape{1025, 1}, {2, 1}),
                          make_concat(Shape{1, 1}, {1, 20000}),
                          with_odd_views(make_split(Shape{3, 48}, {16, 32})),
                          make_split(Shape{5, 4384}, {2048, 2304, 32})};
  all.push_back(make_split(Shape{4, 513, 1072}, {512, 544, 16}));
  all.back().benchmark = true;
  all.push_back(make_split(Shape{8192, 4384}, {2048, 2304, 32}));
  all.back().gpu_benchmark = true;
  all.push_back(make_concat(Shape{4, 513, 1}, {512, 512}));
  all.back().benchmark = true;
  return all;
}

const bool added = add_cases("columns", cases);

}  // namespace
}  // namespace mblm::testing
