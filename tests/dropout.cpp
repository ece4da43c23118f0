#include "ops/dropout.h"

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

constexpr RandomKey key{.seed = 0x123456789abcdef0, .site = site_of("stage_models.0.dropout"), .step = 7};

// One element at a time.
OpCase make(const Shape& shape, double p, std::uint64_t first_element = 0) {
  OpCase c;
  c.name = concat_text(shape, " p=", p, " from ", first_element);
  c.inputs = {{.shape = shape}};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> { return {dropout(in[0], p, {key.seed, key.site, make_step_scalars(in[0].device(), {.micro_step = static_cast<double>(key.step)})}, first_element)}; };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i)
      y.v[i] = static_cast<double>(random_word(key, first_element + i)) >= p * 4294967296.0 ? in[0].v[i] / (1 - p) : 0.0;
    return {y};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33}, Shape{0, 8}, Shape{1025, 17}, Shape{512}, Shape{513}}) {
    all.push_back(make(shape, 0.25));
    all.push_back(make(shape, 0.5, (std::uint64_t{1} << 40) + 3));
  }
  all.push_back(with_odd_views(make(Shape{3, 40}, 0.5, 6)));
  all.push_back(make(Shape{100}, 0.0));
  all.push_back(make(Shape{100}, 0.999));
  all.push_back(make(Shape{4, 513, 256}, 0.1));
  all.back().benchmark = true;
  all.push_back(make(Shape{16384, 1024}, 0.1));
  all.back().gpu_benchmark = true;
  return all;
}

const bool added = add_cases("dropout", cases);

}  // namespace
}  // namespace mblm::testing
