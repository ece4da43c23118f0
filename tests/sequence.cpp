#include "ops/sequence.h"

#include <algorithm>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

std::size_t size(const Shape& shape, int axis) { return static_cast<std::size_t>(shape[axis]); }

// The optional inputs of stage_input that a case uses.
struct Given {
  bool start = false, positions = false, above = false;
};

std::vector<HostArray> stage_oracle(std::span<const HostArray> in, Given given) {
  const HostArray& x = in[0];
  std::size_t next = 1;
  const HostArray* start = given.start ? &in[next++] : nullptr;
  const HostArray* positions = given.positions ? &in[next++] : nullptr;
  const HostArray* above = given.above ? &in[next] : nullptr;
  const std::size_t batches = size(x.shape, 0), rows = size(x.shape, 1), width = size(x.shape, 2), first = given.start ? 1 : 0;
  HostArray y(x.shape.with(1, x.shape[1] + (given.start ? 1 : 0)));
  for (std::size_t b = 0; b < batches; ++b) {
    for (std::size_t i = 0; i < width; ++i) {
      if (start != nullptr) y.v[b * (rows + 1) * width + i] = start->v[i];
      for (std::size_t t = 0; t < rows; ++t) {
        const std::size_t from = (b * rows + t) * width + i;
        y.v[(b * (rows + first) + first + t) * width + i] = x.v[from] + (positions ? positions->v[t * width + i] : 0) + (above ? above->v[from] : 0);
      }
    }
  }
  return {y};
}

OpCase make_stage(const Shape& shape, Given given, std::int64_t spare_positions = 0) {
  OpCase c;
  c.name = concat_text("stage_input ", shape, given.start ? " start" : "", given.positions ? " positions" : "", given.above ? " above" : "");
  c.inputs = {{.shape = shape}};
  if (given.start) c.inputs.push_back({.shape = Shape{shape[2]}, .wide = true});
  if (given.positions) c.inputs.push_back({.shape = Shape{shape[1] + spare_positions, shape[2]}, .wide = true});
  if (given.above) c.inputs.push_back({.shape = shape});
  c.run = [given](std::span<const Tensor> in) -> std::vector<Tensor> {
    std::size_t next = 1;
    const Tensor start = given.start ? in[next++] : Tensor{}, positions = given.positions ? in[next++] : Tensor{};
    return {stage_input(start, in[0], positions, given.above ? in[next] : Tensor{})};
  };
  c.oracle = [given](std::span<const HostArray> in) { return stage_oracle(in, given); };
  return c;
}

// stage_input_at with row t of sequence b at index offsets[b] + t.
OpCase make_stage_at(std::int64_t tokens, const std::vector<std::int64_t>& offsets, Given given) {
  const std::int64_t batch = std::ssize(offsets), width = 5, total = *std::max_element(offsets.begin(), offsets.end()) + tokens;
  OpCase c;
  c.name = concat_text("stage_input_at T=", tokens, " B=", batch, given.start ? " start" : "", given.positions ? " positions" : "", given.above ? " above" : "");
  c.inputs = {{.shape = Shape{batch, tokens, width}}, {.shape = Shape{width}, .wide = true}, {.shape = Shape{total, width}, .wide = true}, {.shape = Shape{batch, tokens, width}}};
  c.gradient = false;
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    const Tensor at = from_values<std::int64_t>(Shape{batch}, offsets, in[0].device());
    return {stage_input_at(given.start ? in[1] : Tensor{}, in[0], given.positions ? in[2] : Tensor{}, given.above ? in[3] : Tensor{}, at)};
  };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y(in[0].shape);
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t i = 0; i < width; ++i) {
          const std::int64_t position = offsets[static_cast<std::size_t>(b)] + t - (given.start ? 1 : 0);
          const auto at = static_cast<std::size_t>((b * tokens + t) * width + i);
          y.v[at] = position < 0 ? in[1].v[static_cast<std::size_t>(i)]
                                 : in[0].v[at] + (given.positions ? in[2].v[static_cast<std::size_t>(position * width + i)] : 0) + (given.above ? in[3].v[at] : 0);
        }
    return {y};
  };
  return c;
}

// The formula of the header, row by row of the flattened sequence.
std::vector<HostArray> flatten_oracle(const HostArray& x, std::int64_t first, std::int64_t count) {
  const std::int64_t patches = x.shape[1], bytes = x.shape[2] - 1, width = x.shape[3];
  HostArray y(Shape{x.shape[0], count, width});
  for (std::int64_t b = 0; b < x.shape[0]; ++b) {
    for (std::int64_t row = first; row < first + count; ++row) {
      const std::int64_t patch = row == 0 ? 0 : (row - 1) / bytes, in_patch = row == 0 ? 0 : 1 + (row - 1) % bytes;
      for (std::int64_t i = 0; i < width; ++i)
        y.v[static_cast<std::size_t>((b * count + row - first) * width + i)] =
            x.v[static_cast<std::size_t>(((b * patches + patch) * (bytes + 1) + in_patch) * width + i)];
    }
  }
  return {y};
}

OpCase make_flatten(const Shape& shape, std::int64_t first, std::int64_t count) {
  OpCase c;
  c.name = concat_text("flatten_patches ", shape, " rows from ", first, ", ", count);
  c.inputs = {{.shape = shape}};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> { return {flatten_patches(in[0], first, count)}; };
  c.oracle = [=](std::span<const HostArray> in) { return flatten_oracle(in[0], first, count); };
  return c;
}

// y[b, t] = x[b, t + shift], zero if x has no such row: the oracle of slices and pads.
HostArray shifted(const HostArray& x, std::int64_t shift, std::int64_t rows) {
  HostArray y(x.shape.with(1, rows));
  const std::int64_t from_rows = x.shape[1], width = x.shape.numel() == 0 ? 0 : x.shape.numel() / (x.shape[0] * from_rows);
  for (std::int64_t b = 0; b < x.shape[0]; ++b)
    for (std::int64_t t = 0; t < rows; ++t)
      for (std::int64_t i = 0; i < width && t + shift >= 0 && t + shift < from_rows; ++i)
        y.v[static_cast<std::size_t>((b * rows + t) * width + i)] = x.v[static_cast<std::size_t>((b * from_rows + t + shift) * width + i)];
  return y;
}

OpCase make_slice(const Shape& shape, std::int64_t begin, std::int64_t end) {
  OpCase c;
  c.name = concat_text("slice_sequence ", shape, " [", begin, ", ", end, ")");
  c.inputs = {{.shape = shape}};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> { return {slice_sequence(in[0], begin, end)}; };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> { return {shifted(in[0], begin, end - begin)}; };
  return c;
}

OpCase make_pad(const Shape& shape, std::int64_t before, std::int64_t after) {
  OpCase c;
  c.name = concat_text("pad_sequence ", shape, " by ", before, " and ", after);
  c.inputs = {{.shape = shape}};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> { return {pad_sequence(in[0], before, after)}; };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> { return {shifted(in[0], -before, before + shape[1] + after)}; };
  return c;
}

std::vector<OpCase> stage_cases() {
  std::vector<OpCase> all;
  for (const Given given : {Given{}, Given{true, true, true}, Given{true, false, true}, Given{false, true, false}}) {
    all.push_back(make_stage_at(1, {0, 3, 0, 7}, given));
    all.push_back(make_stage_at(4, {2, 0, 5}, given));
  }
  for (const bool start : {false, true})
    for (const bool positions : {false, true})
      for (const bool above : {false, true}) all.push_back(make_stage(Shape{3, 4, 5}, {start, positions, above}, 2));
  all.push_back(with_odd_views(make_stage(Shape{2, 3, 32}, {true, true, true})));
  all.push_back(make_stage(Shape{1, 1, 1}, {true, true, true}));
  all.push_back(make_stage(Shape{0, 4, 8}, {true, true, true}));
  all.push_back(make_stage(Shape{2, 0, 8}, {true, true, false}, 3));
  all.push_back(make_stage(Shape{2, 33, 1}, {true, true, true}));
  all.push_back(make_stage(Shape{2, 3, 4099}, {true, true, true}));   // wide: dpositions is summed by blocks of columns
  all.push_back(make_stage(Shape{1025, 2, 31}, {true, true, true}));  // many sequences: dpositions is summed by blocks of sequences
  all.push_back(make_stage(Shape{4, 513, 256}, {true, true, true}));
  all.back().benchmark = true;
  all.push_back(make_stage(Shape{2048, 8, 1024}, {true, true, true}));
  all.back().gpu_benchmark = true;
  return all;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all = stage_cases();
  all.push_back(make_flatten(Shape{2, 3, 5, 7}, 0, 13));  // all rows
  all.push_back(make_flatten(Shape{2, 3, 5, 7}, 0, 12));  // the outputs that predict each byte
  all.push_back(make_flatten(Shape{2, 3, 5, 7}, 1, 12));  // the outputs at each byte
  all.push_back(make_flatten(Shape{2, 3, 5, 7}, 6, 2));
  all.push_back(make_flatten(Shape{2, 3, 5, 7}, 13, 0));
  all.push_back(with_odd_views(make_flatten(Shape{2, 3, 5, 16}, 1, 11)));
  all.push_back(make_flatten(Shape{1, 1, 2, 1}, 0, 2));
  all.push_back(make_flatten(Shape{0, 3, 5, 7}, 2, 4));
  all.push_back(make_flatten(Shape{3, 33, 2, 31}, 0, 31));
  all.push_back(make_flatten(Shape{1, 2, 1025, 33}, 1023, 500));
  all.push_back(make_flatten(Shape{4, 64, 9, 256}, 0, 512));
  all.back().benchmark = true;
  all.push_back(make_flatten(Shape{2, 1024, 9, 1024}, 0, 8192));
  all.back().gpu_benchmark = true;
  for (const Shape& shape : {Shape{3, 5, 7}, Shape{2, 5}, Shape{0, 5, 2}, Shape{2, 5, 3, 31}}) {
    all.push_back(make_slice(shape, 1, 4));
    all.push_back(make_slice(shape, 0, 5));
    all.push_back(make_slice(shape, 5, 5));
    all.push_back(make_pad(shape, 0, 0));
    all.push_back(make_pad(shape, 1, 2));
  }
  all.push_back(make_slice(Shape{1, 1025, 33}, 2, 1025));
  all.push_back(make_slice(Shape{1, 2, 20001}, 1, 2));  // runs longer than a tile
  all.push_back(make_pad(Shape{2, 0, 3}, 1, 1));
  return all;
}

const bool added = add_cases("sequence", cases);

}  // namespace
}  // namespace mblm::testing
