#include "ops/token_shift.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// Carries the second half of each token to the next one; outputs y and the second half of the last token.
std::vector<HostArray> oracle(const HostArray& x, const HostArray* previous, bool with_last) {
  const std::size_t batch = static_cast<std::size_t>(x.shape[0]), tokens = static_cast<std::size_t>(x.shape[1]),
                    width = static_cast<std::size_t>(x.shape[2]);
  const std::size_t kept = (width + 1) / 2, moved = width - kept;
  HostArray y(x.shape), last(Shape{x.shape[0], static_cast<std::int64_t>(moved)});
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t c = 0; c < width; ++c) {
      double carried = c < kept || previous == nullptr ? 0.0 : previous->v[b * moved + c - kept];
      for (std::size_t t = 0; t < tokens; ++t) {
        const std::size_t i = (b * tokens + t) * width + c;
        y.v[i] = c < kept ? x.v[i] : carried;
        carried = x.v[i];
      }
      if (c >= kept) last.v[b * moved + c - kept] = carried;
    }
  return with_last ? std::vector<HostArray>{y, last} : std::vector<HostArray>{y};
}

OpCase make(const Shape& shape, bool previous, bool with_last) {
  OpCase c;
  c.name = concat_text(shape, previous ? " previous" : "", with_last ? " last" : "");
  c.inputs = {{.shape = shape}};
  if (previous) c.inputs.push_back({.shape = Shape{shape[0], shape[2] / 2}});
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor last;
    const Tensor y = token_shift(in[0], previous ? in[1] : Tensor{}, with_last ? &last : nullptr);
    return with_last ? std::vector<Tensor>{y, last} : std::vector<Tensor>{y};
  };
  c.oracle = [=](std::span<const HostArray> in) { return oracle(in[0], previous ? &in[1] : nullptr, with_last); };
  c.float32_bound = 0;
  return c;
}

// Uses only `last`, so y has no gradient.
OpCase make_last_only() {
  OpCase c = make(Shape{2, 3, 5}, true, true);
  c.name = "last only";
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor last;
    token_shift(in[0], in[1], &last);
    return {last};
  };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> { return {oracle(in[0], &in[1], true)[1]}; };
  return c;
}

// A sequence in two calls; `last` of the first is `previous` of the second.
OpCase make_in_parts() {
  OpCase c;
  c.name = "in parts";
  c.inputs = {{.shape = Shape{2, 4, 7}}, {.shape = Shape{2, 3, 7}}};
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor state;
    const Tensor first = token_shift(in[0], {}, &state);
    return {first, token_shift(in[1], state)};
  };
  c.oracle = [](std::span<const HostArray> in) -> std::vector<HostArray> {
    const std::vector<HostArray> first = oracle(in[0], nullptr, true);
    return {first[0], oracle(in[1], &first[1], false)[0]};
  };
  c.float32_bound = 0;
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const bool previous : {false, true})
    for (const bool with_last : {false, true})
      for (const Shape& shape :
           {Shape{1, 1, 1}, Shape{2, 1, 6}, Shape{3, 9, 5}, Shape{2, 33, 32}, Shape{0, 3, 4}, Shape{1, 2, 1023}, Shape{2, 1025, 17}})
        all.push_back(make(shape, previous, with_last));
  all.push_back(with_odd_views(make(Shape{2, 3, 32}, true, true)));
  all.push_back(make_last_only());
  all.push_back(make_in_parts());
  OpCase measured = make(Shape{4, 513, 256}, false, false);
  measured.benchmark = true;
  all.push_back(measured);
  all.push_back(make(Shape{2048, 8, 1024}, false, false));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("token_shift", cases);

}  // namespace
}  // namespace mblm::testing
