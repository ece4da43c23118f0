#include "ops/causal_conv1d.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

struct Form {
  std::int64_t batch, tokens, channels, width;
  bool window = false;  // with an input window before the sequence
};

// Inputs x, weight, bias and optionally the window; outputs y and the last window.
std::vector<HostArray> oracle(std::span<const HostArray> in, const Form& f) {
  const auto at = [&](std::int64_t b, std::int64_t t, std::int64_t c) -> double {
    if (t >= 0) return in[0].v[static_cast<std::size_t>((b * f.tokens + t) * f.channels + c)];
    return f.window ? in[3].v[static_cast<std::size_t>((b * (f.width - 1) + f.width - 1 + t) * f.channels + c)] : 0.0;
  };
  HostArray y(Shape{f.batch, f.tokens, f.channels}), last(Shape{f.batch, f.width - 1, f.channels});
  for (std::int64_t b = 0; b < f.batch; ++b) {
    for (std::int64_t c = 0; c < f.channels; ++c) {
      for (std::int64_t t = 0; t < f.tokens; ++t) {
        double sum = in[2].v[static_cast<std::size_t>(c)];
        for (std::int64_t w = 0; w < f.width; ++w) sum += in[1].v[static_cast<std::size_t>(c * f.width + w)] * at(b, t - f.width + 1 + w, c);
        y.v[static_cast<std::size_t>((b * f.tokens + t) * f.channels + c)] = sum / (1 + std::exp(-sum));
      }
      for (std::int64_t w = 0; w < f.width - 1; ++w)
        last.v[static_cast<std::size_t>((b * (f.width - 1) + w) * f.channels + c)] = at(b, f.tokens - f.width + 1 + w, c);
    }
  }
  return {y, last};
}

OpCase make(const std::string& name, const Form& f, double scale = 1.0) {
  OpCase c;
  c.name = concat_text(name, " B=", f.batch, " T=", f.tokens, " C=", f.channels, " W=", f.width, f.window ? " window" : "");
  c.inputs = {
      {.shape = Shape{f.batch, f.tokens, f.channels}, .scale = scale}, {.shape = Shape{f.channels, 1, f.width}, .wide = true}, {.shape = Shape{f.channels}, .wide = true}};
  if (f.window) c.inputs.push_back({.shape = Shape{f.batch, f.width - 1, f.channels}, .scale = scale});
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor last;
    const Tensor y = causal_conv1d_silu(in[0], in[1], in[2], in.size() > 3 ? in[3] : Tensor{}, &last);
    return {y, last};
  };
  c.oracle = [f](std::span<const HostArray> in) { return oracle(in, f); };
  return c;
}

// Uses only one of the two outputs.
OpCase one_output(const Form& f, std::size_t output) {
  OpCase c = make(output == 0 ? "only y" : "only the last window", f);
  c.run = [run = c.run, output](std::span<const Tensor> in) -> std::vector<Tensor> { return {run(in)[output]}; };
  c.oracle = [f, output](std::span<const HostArray> in) -> std::vector<HostArray> { return {oracle(in, f)[output]}; };
  return c;
}

OpCase without_last_window(const Form& f) {
  OpCase c = one_output(f, 0);
  c.name = concat_text("no last window, ", c.name);
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {causal_conv1d_silu(in[0], in[1], in[2])}; };
  return c;
}

// One sequence in two calls gives the same y and last window as one call.
OpCase in_two_parts(const Form& f, std::int64_t first) {
  OpCase c = make(concat_text("two parts, first ", first), f);
  c.run = [f, first](std::span<const Tensor> in) -> std::vector<Tensor> {
    const Tensor rows = in[0].reshape(Shape{f.tokens, f.channels});
    Tensor window = in.size() > 3 ? in[3] : Tensor{};
    std::vector<Tensor> outputs;
    for (const auto& [begin, end] : {std::pair{std::int64_t{0}, first}, std::pair{first, f.tokens}}) {
      Tensor last;
      outputs.push_back(causal_conv1d_silu(rows.slice(begin, end).reshape(Shape{1, end - begin, f.channels}), in[1], in[2], window, &last));
      window = last;
    }
    outputs.push_back(window);
    return outputs;
  };
  c.oracle = [f, first](std::span<const HostArray> in) -> std::vector<HostArray> {
    const std::vector<HostArray> whole = oracle(in, f);
    HostArray head(Shape{1, first, f.channels}), tail(Shape{1, f.tokens - first, f.channels});
    std::copy_n(whole[0].v.begin(), head.v.size(), head.v.begin());
    std::copy_n(whole[0].v.begin() + first * f.channels, tail.v.size(), tail.v.begin());
    return {head, tail, whole[1]};
  };
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const std::int64_t width : {1, 2, 3, 4, 5, 8}) {
    for (const bool window : {false, true}) {
      all.push_back(make("conv", {2, 9, 5, width, window}));
      all.push_back(make("shorter than the window", {2, 2, 3, width, window}));
      all.push_back(make("one token", {3, 1, 3, width, window}));
      all.push_back(make("no token", {2, 0, 3, width, window}));
    }
  }
  for (const std::int64_t channels : {1, 31, 32, 33, 255, 257, 1023, 1025}) all.push_back(make("conv", {1, 3, channels, 4}));
  for (const std::int64_t tokens : {63, 64, 65, 66, 130}) all.push_back(make("conv", {2, tokens, 3, 4, true}));
  all.push_back(make("many sequences", {130, 3, 2, 4, true}));
  for (const std::int64_t tokens : {1, 3, 15, 16, 17, 33}) {  // tiles of a GPU: 16 tokens, 4 or 8 channels
    for (const std::int64_t channels : {8, 12, 264}) {
      all.push_back(make("tiles", {2, tokens, channels, 4, tokens != 15}));
      all.back().differences = channels == 8;
    }
  }
  OpCase sequences = make("several per thread", {2100, 3, 4, 4, true});
  sequences.differences = false;
  all.push_back(sequences);
  sequences = make("several per thread", {33000, 1, 64, 4});
  sequences.gradient = false;
  all.push_back(sequences);
  all.push_back(make("empty", {0, 5, 3, 4, true}));
  all.push_back(make("large", {2, 5, 3, 4, true}, 1024.0));
  all.push_back(make("small", {2, 5, 3, 4, true}, 1.0 / 1024));
  for (const std::size_t output : {0, 1}) {
    all.push_back(one_output({2, 6, 3, 4, true}, output));
    all.push_back(one_output({2, 2, 3, 4, true}, output));
  }
  all.push_back(without_last_window({2, 6, 3, 4}));
  for (const std::int64_t first : {1, 2, 5, 70}) all.push_back(in_two_parts({1, 80, 3, 4, first == 2}, first));
  OpCase row = make("long row", {1, 20000, 3, 4});
  row.gradient = false;  // finite differences would run the whole row for each element
  all.push_back(row);
  OpCase measured = make("measured", {4, 513, 512, 4});
  measured.benchmark = true;
  measured.flops = 4.0 * 513 * 512 * 12;
  all.push_back(measured);
  return all;
}

const bool added = add_cases("causal_conv1d_silu", cases);

}  // namespace
}  // namespace mblm::testing
