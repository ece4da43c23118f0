#include "ops/rotary.h"

#include <cmath>

#include "engine/kernel_data.h"
#include "ops/add.h"
#include "ops/scale.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// Sequence b starts at first_position + stride b.
HostArray oracle(const HostArray& x, RotaryPairs pairs, std::int64_t head_dim, std::int64_t heads, std::int64_t first_position, std::int64_t stride) {
  HostArray y = x;
  const std::int64_t tokens = x.shape[1], width = x.shape[2], half = head_dim / 2;
  for (std::int64_t row = 0; row < x.shape.rows(); ++row)
    for (std::int64_t head = 0; head < heads; ++head)
      for (std::int64_t i = 0; i < half; ++i) {
        const bool interleaved = pairs == RotaryPairs::Interleaved;
        const std::size_t start = static_cast<std::size_t>(row * width + head * head_dim);
        const std::size_t a = start + static_cast<std::size_t>(interleaved ? 2 * i : i),
                          b = start + static_cast<std::size_t>(interleaved ? 2 * i + 1 : i + half);
        const double position = static_cast<double>(first_position + stride * (row / tokens) + row % tokens);
        const double angle = position * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        y.v[a] = x.v[a] * std::cos(angle) - x.v[b] * std::sin(angle);
        y.v[b] = x.v[b] * std::cos(angle) + x.v[a] * std::sin(angle);
      }
  return y;
}

OpCase make(const std::string& name, const Shape& shape, RotaryPairs pairs, std::int64_t head_dim, std::int64_t heads,
            std::int64_t first_position = 0, std::int64_t stride = 0) {
  OpCase c;
  c.name = concat_text(name, " ", shape, pairs == RotaryPairs::Interleaved ? " interleaved" : " half split", " d=", head_dim, " heads=", heads,
                       " from ", first_position, " + ", stride, " b");
  c.inputs = {{.shape = shape}};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    std::vector<std::int64_t> starts;
    for (std::int64_t b = 0; b < in[0].size(0); ++b) starts.push_back(first_position + stride * b);
    const Device device = in[0].device();
    const Tensor frequencies = to_device(rotary_frequencies(head_dim), device);
    const Tensor positions = first_position + stride == 0 ? Tensor{} : from_values<std::int64_t>(Shape{in[0].size(0)}, starts, device);
    return {rotary(in[0], frequencies, pairs, heads, positions)};
  };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> { return {oracle(in[0], pairs, head_dim, heads, first_position, stride)}; };
  return c;
}

// The op between two others that keep nothing, so that x and dy are its own to overwrite.
OpCase make_in_place(const Shape& shape, RotaryPairs pairs, std::int64_t head_dim, std::int64_t heads) {
  OpCase c = make("in place", shape, pairs, head_dim, heads);
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor x = scale(in[0], 1);
    const void* const before = raw(x);
    const Tensor y = rotary(std::move(x), to_device(rotary_frequencies(head_dim), in[0].device()), pairs, heads);
    require(raw(y) == before, "rotary: expected the memory of x");
    return {scale(y, 1)};
  };
  return c;
}

// x and dy have other users, which must not see them overwritten: the second output, and the gradient of the second input.
OpCase make_shared(const Shape& shape, RotaryPairs pairs, std::int64_t head_dim, std::int64_t heads) {
  OpCase c = make("other users of x and dy", shape, pairs, head_dim, heads);
  c.inputs.push_back({.shape = shape});
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    const Tensor y = rotary(in[0], to_device(rotary_frequencies(head_dim), in[0].device()), pairs, heads);
    return {add(y, in[1]), scale(in[0], 1)};
  };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray sum = oracle(in[0], pairs, head_dim, heads, 0, 0);
    for (std::size_t i = 0; i < sum.v.size(); ++i) sum.v[i] += in[1].v[i];
    return {sum, in[0]};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const RotaryPairs pairs : {RotaryPairs::Interleaved, RotaryPairs::HalfSplit}) {
    all.push_back(make("smallest", Shape{1, 1, 2}, pairs, 2, 1));
    all.push_back(make("q and k of a packed row", Shape{2, 9, 3 * 16}, pairs, 8, 4));
    all.push_back(make_in_place(Shape{2, 9, 3 * 16}, pairs, 8, 4));
    all.push_back(make_shared(Shape{2, 9, 3 * 16}, pairs, 8, 4));
    all.push_back(make("odd rest", Shape{2, 33, 23}, pairs, 6, 3));
    all.push_back(make("nothing rotated", Shape{2, 3, 5}, pairs, 4, 0));
    all.push_back(make("whole width", Shape{1, 65, 66}, pairs, 66, 1));
    all.push_back(make("empty", Shape{0, 4, 8}, pairs, 4, 2));
    all.push_back(make("no tokens", Shape{2, 0, 8}, pairs, 4, 2));
    all.push_back(make("in the middle", Shape{2, 3, 8}, pairs, 4, 2, 1000));
    all.push_back(make("rows of their own", Shape{3, 40, 8}, pairs, 4, 2, 5, 61));
    all.push_back(make("one token each", Shape{5, 1, 8}, pairs, 4, 2, 31, 1));
    all.push_back(make("wide", Shape{2, 1, 2048}, pairs, 1024, 1, 7));
    OpCase long_row = make("long", Shape{1, 8193, 4}, pairs, 4, 1);
    all.push_back(long_row);
    OpCase measured = make("measured", Shape{4, 513, 768}, pairs, 64, 8);
    measured.benchmark = true;
    all.push_back(measured);
  }
  all.push_back(make("far", Shape{1, 40, 8}, RotaryPairs::HalfSplit, 8, 1, 100000));
  return all;
}

const bool added = add_cases("rotary", cases);

}  // namespace
}  // namespace mblm::testing
