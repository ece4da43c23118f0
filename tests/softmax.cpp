#include "ops/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

OpCase make(const Shape& shape, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(shape, " scale ", scale);
  c.inputs = {{.shape = shape, .scale = scale}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {softmax(in[0])}; };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    const auto width = static_cast<std::size_t>(y.shape.last());
    for (std::size_t row = 0; row < y.v.size(); row += width) {
      const double largest = *std::max_element(in[0].v.begin() + static_cast<long>(row), in[0].v.begin() + static_cast<long>(row + width));
      double sum = 0;
      for (std::size_t i = row; i < row + width; ++i) sum += std::exp(in[0].v[i] - largest);
      for (std::size_t i = row; i < row + width; ++i) y.v[i] = std::exp(in[0].v[i] - largest) / sum;
    }
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  all.push_back(make(Shape{3, 1}));  // y is 1
  all.back().gradient_size = 1;
  for (const Shape& shape : {Shape{5}, Shape{2, 3, 31}, Shape{4, 32}, Shape{3, 33}, Shape{0, 8}, Shape{3, 0}, Shape{1025, 7}, Shape{2, 1023}})
    all.push_back(make(shape));
  all.push_back(with_odd_views(make(Shape{3, 40})));
  all.push_back(make(Shape{4, 16}, 1.0 / 1024));
  all.push_back(make(Shape{4, 16}, 1024.0));
  all.back().gradient = false;  // the steps of finite differences are too large at this scale
  all.push_back(make(Shape{2, 5}));
  all.back().name = "masked elements";
  constexpr double infinity = std::numeric_limits<double>::infinity();
  all.back().inputs[0].values = {-infinity, 1, -infinity, 2, 0.5, 3, -infinity, -infinity, -infinity, -infinity};
  all.back().gradient = false;
  // Rows that one, two, four and eight warps of a GPU hold, rows that none do, and more rows than one block has.
  for (const Shape& shape : {Shape{19, 1024}, Shape{3, 1032}, Shape{5, 4096}, Shape{2, 8192}, Shape{2, 8200}, Shape{3, 1025}}) {
    all.push_back(make(shape));
    all.back().differences = false;
  }
  all.push_back(make(Shape{4, 513, 256}));
  all.back().benchmark = true;
  all.push_back(make(Shape{16384, 1024}));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("softmax", cases);

}  // namespace
}  // namespace mblm::testing
