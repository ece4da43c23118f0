#include "ops/layer_norm.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

std::vector<HostArray> oracle(std::span<const HostArray> in) {
  const HostArray &x = in[0], &g = in[1], &b = in[2];
  HostArray y(x.shape);
  const std::size_t width = g.v.size();
  for (std::size_t row = 0; row * width < x.v.size(); ++row) {
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < width; ++i) mean += x.v[row * width + i] / static_cast<double>(width);
    for (std::size_t i = 0; i < width; ++i) square += (x.v[row * width + i] - mean) * (x.v[row * width + i] - mean);
    const double deviation = std::sqrt(square / static_cast<double>(width) + 1e-5);
    for (std::size_t i = 0; i < width; ++i) y.v[row * width + i] = (x.v[row * width + i] - mean) / deviation * g.v[i] + b.v[i];
  }
  return {y};
}

OpCase make(const std::string& name, const Shape& shape, double scale = 1.0, double offset = 0.0) {
  OpCase c;
  c.name = concat_text(name, " ", shape);
  c.inputs = {{.shape = shape, .scale = scale, .offset = offset}, {.shape = Shape{shape.last()}, .offset = 1.0, .wide = true}, {.shape = Shape{shape.last()}, .wide = true}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {layer_norm(in[0], in[1], in[2])}; };
  c.oracle = oracle;
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 31}, Shape{4, 32}, Shape{3, 33}, Shape{0, 8}, Shape{1025, 7}, Shape{2, 1023}, Shape{1, 20001}})
    all.push_back(make("layer_norm", shape));
  // Rows that one, two, four and eight warps of a GPU hold, rows that none do, and more rows than blocks.
  for (const Shape& shape : {Shape{19, 1024}, Shape{3, 1032}, Shape{5, 4096}, Shape{2, 8192}, Shape{2, 8200}, Shape{4113, 8}})
    all.push_back(make("layer_norm", shape));
  all.push_back(with_odd_views(make("layer_norm", Shape{3, 40})));
  all.push_back(make("width 1", Shape{3, 1}));  // every y is the bias
  all.back().gradient_size = 316;               // dx is 0 but for rounding; its terms are dy / sqrt(eps)
  all.push_back(make("large", Shape{4, 16}, 1024.0));
  all.push_back(make("small", Shape{4, 16}, 1.0 / 16));
  all.push_back(make("far from zero", Shape{4, 64}, 1.0, 1024.0));
  all.back().float32_bound = 2e-4;  // near 1024, float32 rounds the input and the mean by up to 2^-13
  all.push_back(make("measured", Shape{4, 513, 256}));
  all.back().benchmark = true;
  all.push_back(make("measured", Shape{16384, 1024}));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("layer_norm", cases);

}  // namespace
}  // namespace mblm::testing
