#include "ops/selective_scan.h"

#include <cmath>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

struct Form {
  std::int64_t batch, tokens, channels, states;
  bool initial = false;  // with an input for the state before the sequence
  double dt = 0.1;       // the largest step
};

// Inputs x, dt, A_log, b, c, d and optionally the initial state; outputs y and the final state.
std::vector<HostArray> oracle(std::span<const HostArray> in, const Form& f) {
  HostArray y(Shape{f.batch, f.tokens, f.channels}), final_state(Shape{f.batch, f.channels, f.states});
  for (std::int64_t bi = 0; bi < f.batch; ++bi) {
    for (std::int64_t ci = 0; ci < f.channels; ++ci) {
      for (std::int64_t s = 0; s < f.states; ++s) {
        const auto state = static_cast<std::size_t>((bi * f.channels + ci) * f.states + s);
        const double a = -std::exp(in[2].v[static_cast<std::size_t>(ci * f.states + s)]);
        double h = f.initial ? in[6].v[state] : 0.0;
        for (std::int64_t t = 0; t < f.tokens; ++t) {
          const auto i = static_cast<std::size_t>((bi * f.tokens + t) * f.channels + ci),
                     j = static_cast<std::size_t>((bi * f.tokens + t) * f.states + s);
          h = std::exp(in[1].v[i] * a) * h + in[1].v[i] * in[3].v[j] * in[0].v[i];
          y.v[i] += h * in[4].v[j] + (s == 0 ? in[5].v[static_cast<std::size_t>(ci)] * in[0].v[i] : 0.0);
        }
        final_state.v[state] = h;
      }
    }
  }
  return {y, final_state};
}

OpCase make(const std::string& name, const Form& f, double scale = 1.0) {
  const Shape rows{f.batch, f.tokens, f.channels}, columns{f.batch, f.tokens, f.states};
  OpCase c;
  c.name = concat_text(name, " B=", f.batch, " T=", f.tokens, " C=", f.channels, " S=", f.states, " dt=", f.dt, f.initial ? " initial" : "");
  c.inputs = {{.shape = rows, .scale = scale},
              {.shape = rows, .scale = f.dt, .wide = true},
              {.shape = Shape{f.channels, f.states}, .scale = 0.5, .offset = 0.5, .wide = true},
              {.shape = columns},
              {.shape = columns},
              {.shape = Shape{f.channels}, .wide = true}};
  if (f.initial) c.inputs.push_back({.shape = Shape{f.batch, f.channels, f.states}, .wide = true});
  std::mt19937_64 random(static_cast<std::uint64_t>(rows.numel()));
  std::uniform_real_distribution<double> step(0.05, 1.0);  // dt is positive
  for (std::int64_t i = 0; i < rows.numel(); ++i) c.inputs[1].values.push_back(static_cast<float>(step(random) * f.dt));
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor final_state;
    const Tensor y = selective_scan(in[0], in[1], in[2], in[3], in[4], in[5], in.size() > 6 ? in[6] : Tensor{}, &final_state);
    return {y, final_state};
  };
  c.oracle = [f](std::span<const HostArray> in) { return oracle(in, f); };
  return c;
}

// Uses only one of the two outputs.
OpCase one_output(const Form& f, std::size_t output) {
  OpCase c = make(output == 0 ? "only y" : "only the final state", f);
  c.run = [run = c.run, output](std::span<const Tensor> in) -> std::vector<Tensor> { return {run(in)[output]}; };
  c.oracle = [f, output](std::span<const HostArray> in) -> std::vector<HostArray> { return {oracle(in, f)[output]}; };
  return c;
}

OpCase without_final_state(const Form& f) {
  OpCase c = one_output(f, 0);
  c.name = concat_text("no final state, ", c.name);
  c.run = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {selective_scan(in[0], in[1], in[2], in[3], in[4], in[5])}; };
  return c;
}

// One sequence in two calls gives the same y and final state as one call.
OpCase in_two_parts(const Form& f, std::int64_t first) {
  OpCase c = make(concat_text("two parts, first ", first), f);
  c.run = [f, first](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor state = in.size() > 6 ? in[6] : Tensor{};
    std::vector<Tensor> outputs;
    for (const auto& [begin, end] : {std::pair{std::int64_t{0}, first}, std::pair{first, f.tokens}}) {
      const auto part = [&, begin = begin, end = end](const Tensor& x) {
        return x.reshape(x.shape().without_first()).slice(begin, end).reshape(Shape{1, end - begin, x.size(2)});
      };
      Tensor next;
      outputs.push_back(selective_scan(part(in[0]), part(in[1]), in[2], part(in[3]), part(in[4]), in[5], state, &next));
      state = next;
    }
    outputs.push_back(state);
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
  for (const std::int64_t tokens : {1, 2, 63, 64, 65, 130}) {
    all.push_back(make("scan", {2, tokens, 3, 2}));
    all.push_back(make("scan", {1, tokens, 2, 3, true}));
  }
  for (const std::int64_t channels : {1, 15, 16, 17, 48}) all.push_back(make("scan", {1, 4, channels, 2, true}));
  for (const std::int64_t states : {1, 5, 16, 33, 256}) all.push_back(make("scan", {1, 4, 2, states, true}));
  for (const double dt : {1e-3, 6.0, 50.0}) all.push_back(make("step", {1, 66, 3, 4, true, dt}));
  for (const Form& f : {Form{1, 2, 130, 3, true}, Form{1, 2, 70, 40, true}, Form{35, 3, 17, 2, true}, Form{17, 65, 1, 1}})
    all.push_back(make("tiles", f));
  // Blocks of channels, several short sequences in a tile and several tiles in a block, several groups of states in several chunks.
  for (const Form& f :
       {Form{2, 66, 64, 16}, Form{1, 130, 72, 17, true}, Form{35, 8, 8, 16, true}, Form{40, 9, 3, 4, true}, Form{2, 129, 3, 40, true}})
    all.push_back(make("blocks", f));
  all.push_back(with_odd_views(make("blocks", {2, 66, 64, 16, true})));
  all.push_back(make("empty", {0, 5, 3, 4, true}));
  all.push_back(make("no token", {2, 0, 3, 4, true}));
  all.push_back(make("large", {2, 5, 3, 4, true}, 1024.0));
  all.push_back(make("small", {2, 5, 3, 4, true}, 1.0 / 1024));
  for (const std::size_t output : {0, 1}) all.push_back(one_output({2, 66, 3, 4, true}, output));
  all.push_back(without_final_state({2, 66, 3, 4}));
  for (const std::int64_t first : {1, 40, 64, 70}) all.push_back(in_two_parts({1, 80, 3, 4, first == 40}, first));
  OpCase row = make("long row", {1, 5000, 17, 5, true, 0.01});
  row.gradient = false;  // finite differences would run the whole row for each element
  all.push_back(row);
  OpCase measured = make("measured", {4, 513, 512, 16});
  measured.benchmark = true;
  measured.flops = 4.0 * 513 * 512 * 16 * 6;
  all.push_back(measured);
  return all;
}

const bool added = add_cases("selective_scan", cases);

}  // namespace
}  // namespace mblm::testing
