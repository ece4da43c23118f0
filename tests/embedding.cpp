#include "ops/embedding.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

std::vector<HostArray> oracle(std::span<const HostArray> in) {
  const HostArray &ids = in[0], &table = in[1];
  const std::size_t width = static_cast<std::size_t>(table.shape.last());
  std::vector<std::int64_t> sizes(ids.shape.begin(), ids.shape.end());
  sizes.push_back(table.shape.last());
  HostArray y{Shape(sizes)};
  for (std::size_t i = 0; i < ids.v.size(); ++i)
    for (std::size_t c = 0; c < width; ++c) y.v[i * width + c] = table.v[static_cast<std::size_t>(ids.v[i]) * width + c];
  return {y};
}

OpCase make(const Shape& positions, std::int64_t vocabulary, std::int64_t width, double scale = 1.0) {
  OpCase c;
  c.name = concat_text("ids ", positions, " V=", vocabulary, " D=", width);
  c.inputs = {ids(positions, vocabulary), {.shape = Shape{vocabulary, width}, .scale = scale}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {embedding(in[0], in[1])}; };
  c.oracle = oracle;
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all{make(Shape{1}, 1, 1),          make(Shape{}, 5, 3),     make(Shape{2, 7}, 11, 31),    make(Shape{33}, 7, 32),
                          make(Shape{2, 3, 5}, 256, 33), make(Shape{0, 4}, 8, 6), make(Shape{1025}, 3, 1),      make(Shape{1023}, 2, 67),
                          make(Shape{9}, 4, 1025),       make(Shape{4}, 6, 0),    make(Shape{8}, 4, 8, 1024.0), make(Shape{8}, 4, 8, 1.0 / 1024),
                          make(Shape{300}, 513, 12),        make(Shape{700}, 1500, 4),      make(Shape{64}, 1, 36),         make(Shape{129}, 2, 520)};
  all.push_back(with_odd_views(make(Shape{70}, 5, 32)));
  all.push_back(make(Shape{4, 8192}, 256, 256));
  all.back().benchmark = true;
  return all;
}

const bool added = add_cases("embedding", cases);

}  // namespace
}  // namespace mblm::testing
