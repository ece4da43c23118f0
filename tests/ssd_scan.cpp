#include "ops/ssd_scan.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

struct Sizes {
  std::int64_t batch = 1, tokens = 1, heads = 1, width = 1, states = 1;
};

// The recurrence, token by token. Inputs x, dt, A_log, b, c, d and optionally the initial state; outputs y and the final state.
std::vector<HostArray> oracle(const Sizes& n, std::span<const HostArray> in) {
  const HostArray &x = in[0], &dt = in[1], &a_log = in[2], &b = in[3], &c = in[4], &d = in[5];
  HostArray y(x.shape), h(Shape{n.batch, n.heads, n.width, n.states});
  if (in.size() > 6) h = in[6];
  const auto at = [](std::int64_t index) { return static_cast<std::size_t>(index); };
  for (std::int64_t row = 0; row < n.batch * n.tokens; ++row) {
    const std::int64_t sequence = row / n.tokens;
    for (std::int64_t channel = 0; channel < n.heads * n.width; ++channel) {
      const std::int64_t head = channel / n.width;
      const double step = dt.v[at(row * n.heads + head)], a = std::exp(-std::exp(a_log.v[at(head)]) * step),
                   value = x.v[at(row * n.heads * n.width + channel)];
      double sum = d.v[at(head)] * value;
      for (std::int64_t s = 0; s < n.states; ++s) {
        double& state = h.v[at((sequence * n.heads * n.width + channel) * n.states + s)];
        state = a * state + step * value * b.v[at(row * n.states + s)];
        sum += state * c.v[at(row * n.states + s)];
      }
      y.v[at(row * n.heads * n.width + channel)] = sum;
    }
  }
  return {y, h};
}

std::vector<CaseInput> inputs(const Sizes& n, double dt, double dt_scale) {
  std::vector<double> a_log;
  for (std::int64_t head = 0; head < n.heads; ++head)
    a_log.push_back(n.heads == 1 ? 0.5 : std::log(16.0) * static_cast<double>(head) / static_cast<double>(n.heads - 1));
  return {{.shape = Shape{n.batch, n.tokens, n.heads * n.width}},
          {.shape = Shape{n.batch, n.tokens, n.heads}, .scale = dt_scale, .offset = dt, .wide = true},
          {.shape = Shape{n.heads}, .values = a_log, .wide = true},
          {.shape = Shape{n.batch, n.tokens, n.states}},
          {.shape = Shape{n.batch, n.tokens, n.states}},
          {.shape = Shape{n.heads}, .wide = true}};
}

OpCase make(const Sizes& n, double dt, double dt_scale, bool with_state) {
  OpCase c;
  c.name = concat_text("B=", n.batch, " T=", n.tokens, " H=", n.heads, " p=", n.width, " S=", n.states, " dt=", dt, with_state ? " with states" : "");
  c.inputs = inputs(n, dt, dt_scale);
  if (with_state) c.inputs.push_back({.shape = Shape{n.batch, n.heads, n.width, n.states}, .wide = true});
  c.run = [with_state](std::span<const Tensor> in) -> std::vector<Tensor> {
    if (!with_state) return {ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5])};
    Tensor last;
    const Tensor y = ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5], in[6], &last);
    return {y, last};
  };
  c.oracle = [n, with_state](std::span<const HostArray> in) {
    std::vector<HostArray> outputs = oracle(n, in);
    outputs.resize(with_state ? 2 : 1);
    return outputs;
  };
  return c;
}

// A sequence in two calls, the final state of the first as the initial state of the second. The inputs are all inputs of the first
// call, then x, dt, b and c of the second.
OpCase make_continued(const Sizes& first, std::int64_t more) {
  Sizes second = first, all = first;
  second.tokens = more;
  all.tokens += more;
  OpCase c;
  c.name = concat_text("continued T=", first.tokens, "+", more);
  c.inputs = inputs(first, 0.1, 0.02);
  const std::vector<CaseInput> rest = inputs(second, 0.1, 0.02);
  for (const int i : {0, 1, 3, 4}) c.inputs.push_back(rest[static_cast<std::size_t>(i)]);
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor state;
    const Tensor y = ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5], {}, &state);
    const Tensor y2 = ssd_scan(in[6], in[7], in[2], in[8], in[9], in[5], state, &state);
    return {y, y2, state};
  };
  c.oracle = [first, second](std::span<const HostArray> in) {
    std::vector<HostArray> a = oracle(first, in.first(6));
    const std::vector<HostArray> b = oracle(second, std::vector<HostArray>{in[6], in[7], in[2], in[8], in[9], in[5], a[1]});
    return std::vector<HostArray>{a[0], b[0], b[1]};
  };
  return c;
}

// x, b and c start at an odd element of their memory.
OpCase make_unaligned(const Sizes& n) {
  OpCase c = make(n, 0.1, 0.02, false);
  c.name += " unaligned";
  std::vector<Shape> shapes;
  for (CaseInput& input : c.inputs) {
    shapes.push_back(input.shape);
    if (input.shape.rank() == 3 && !input.wide) input.shape = Shape{input.shape.numel() + 1};
  }
  c.run = [shapes](std::span<const Tensor> in) -> std::vector<Tensor> {
    const auto aligned = [&](std::size_t i) { return in[i].slice(1, in[i].numel()).reshape(shapes[i]); };
    return {ssd_scan(aligned(0), in[1], in[2], aligned(3), aligned(4), in[5])};
  };
  c.oracle = [n, shapes](std::span<const HostArray> in) {
    std::vector<HostArray> cut(in.begin(), in.end());
    for (const std::size_t i : {0, 3, 4}) {
      cut[i].shape = shapes[i];
      cut[i].v.erase(cut[i].v.begin());
    }
    return std::vector<HostArray>{oracle(n, cut)[0]};
  };
  c.differences = false;
  return c;
}

OpCase make_measured(const Sizes& n) {
  OpCase c = make(n, 0.1, 0.02, false);
  c.oracle = nullptr;
  c.benchmark = true;
  const double rows = static_cast<double>(n.batch * n.tokens), chunk = static_cast<double>(std::min(n.tokens, ssd_chunk)),
               states = n.tokens > ssd_chunk ? 4.0 : 0.0;
  c.flops =
      rows * static_cast<double>(n.states) * chunk + rows * static_cast<double>(n.heads * n.width) * (chunk + states * static_cast<double>(n.states));
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const std::int64_t tokens : {1, 9, 16, 17, 63, 64, 65, 130, 200}) {
    all.push_back(make({2, tokens, 3, 8, 12}, 0.1, 0.02, false));
    all.push_back(make({2, tokens, 3, 8, 12}, 0.1, 0.02, true));
  }
  for (const std::int64_t tokens : {9, 65}) {
    for (const Sizes& n :
         {Sizes{1, tokens, 1, 1, 1}, Sizes{1, tokens, 1, 24, 16}, Sizes{3, tokens, 3, 1, 16}, Sizes{1, tokens, 1, 72, 1}, Sizes{0, tokens, 3, 8, 12}})
      all.push_back(make(n, 0.1, 0.02, true));
    // The gradient of A_log, one number, is 2.7 here: the sum of terms whose absolute values add up to 1066, their squares to 14.2^2.
    for (OpCase& c : all)
      if (c.name == "B=1 T=65 H=1 p=24 S=16 dt=0.1 with states") c.gradient_size = 14;
    all.push_back(make({2, tokens, 3, 8, 12}, 1e-3, 5e-3, true));  // some dt are negative, so states grow
    all.push_back(make({2, tokens, 3, 8, 12}, 6, 0.5, true));
    all.push_back(make({2, tokens, 3, 8, 12}, 50, 1, true));  // a_t underflows
  }
  all.push_back(make({1, 1100, 2, 3, 4}, 0.1, 0.02, true));  // more chunks than one sweep
  for (const std::int64_t tokens : {2049, 2200}) {  // more than two sweeps; dt is small, so that early states reach late tokens
    for (const bool with_state : {false, true}) {
      all.push_back(make({1, tokens, 2, 3, 4}, 1e-3, 2e-4, with_state));
      all.back().differences = false;
      all.back().large = true;
    }
  }
  for (const double dt : {1e-3, 0.1, 6.0}) {
    OpCase accurate = make({1, 512, 4, 16, 16}, dt, 0, true);  // constant dt: every token has the same rounding error of a_t
    accurate.gradient = false;
    all.push_back(accurate);
  }
  // Tiles of a GPU: 16 and 64 tokens, 64 channels of a head, 128 states; partly filled, full and several.
  for (const Sizes& n : {Sizes{3, 1, 1, 8, 8}, Sizes{2, 8, 5, 64, 128}, Sizes{1, 9, 19, 72, 136}, Sizes{2, 16, 2, 8, 40}, Sizes{1, 17, 2, 64, 128},
                         Sizes{1, 33, 2, 24, 16}, Sizes{2, 130, 2, 64, 128}, Sizes{1, 66, 2, 72, 136}, Sizes{1, 65, 2, 65, 129}}) {
    for (const bool with_state : {false, true}) {
      all.push_back(make(n, 0.1, 0.02, with_state));
      all.back().differences = false;
    }
  }
  for (const std::int64_t tokens : {9, 65}) all.push_back(make_unaligned({2, tokens, 3, 16, 16}));
  for (const auto& [n, with_state] : {std::pair{Sizes{1100, 2, 3, 8, 8}, false}, {Sizes{512, 2, 19, 8, 8}, true}}) {  // several heads per block
    all.push_back(make(n, 0.1, 0.02, with_state));
    all.back().differences = false;
  }
  for (const auto& [first, more] : {std::pair{40, 30}, {70, 1}, {1, 1}, {64, 64}}) all.push_back(make_continued({2, first, 3, 8, 12}, more));
  all.push_back(make_measured({4, 513, 8, 64, 64}));
  all.push_back(make_measured({512, 9, 8, 64, 64}));
  return all;
}

const bool added = add_cases("ssd_scan", cases);

}  // namespace
}  // namespace mblm::testing
