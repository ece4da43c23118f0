// The initial value of every parameter against the distributions of the model's paper and package: bounds and spread.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/small_model.h"

namespace mblm::testing {
namespace {

bool ends_with(const std::string& text, const std::string& end) { return text.ends_with(end); }

struct Statistics {
  double least, largest, mean, deviation;
};
Statistics statistics_of(const std::vector<double>& v) {
  const double n = static_cast<double>(v.size()), mean = std::accumulate(v.begin(), v.end(), 0.0) / n;
  double square = 0;
  for (const double x : v) square += (x - mean) * (x - mean);
  return {*std::min_element(v.begin(), v.end()), *std::max_element(v.begin(), v.end()), mean, std::sqrt(square / n)};
}

// Uniform in [low, high): the extremes come close to the bounds, mean and spread are within five standard errors.
void check_uniform(const std::vector<double>& v, double low, double high) {
  const Statistics s = statistics_of(v);
  const double width = high - low, n = static_cast<double>(v.size());
  CHECK(s.least >= low - 1e-6 * width);
  CHECK(s.largest <= high + 1e-6 * width);
  CHECK(s.least <= low + 10 * width / n);
  CHECK(s.largest >= high - 10 * width / n);
  CHECK(std::abs(s.mean - (low + high) / 2) <= 5 * width / std::sqrt(12 * n));
  CHECK(std::abs(s.deviation - width / std::sqrt(12)) <= 5 * 0.13 * width / std::sqrt(n));
}

void check_normal(const std::vector<double>& v) {
  const Statistics s = statistics_of(v);
  const double n = static_cast<double>(v.size());
  CHECK(std::abs(s.mean) <= 5 / std::sqrt(n));
  CHECK(std::abs(s.deviation - 1) <= 5 / std::sqrt(2 * n));
  CHECK(s.largest < 6);
}

void check_constant(const std::vector<double>& v, double value) {
  CHECK(std::all_of(v.begin(), v.end(), [&](double x) { return x == value; }));
}

// Sizes that the rules need beside the shape of a parameter.
struct Sizes {
  std::int64_t layers, conv, states, rank, pad;
};

// Checks one parameter. Returns false for a name without a rule.
bool check_parameter(const std::string& name, const Shape& shape, const std::vector<double>& v, const Sizes& n, bool is_mamba2) {
  const auto bound = [](std::int64_t fan_in) { return 1 / std::sqrt(static_cast<double>(fan_in)); };
  const auto linear = [&](std::int64_t fan_in, double factor = 1) { check_uniform(v, -bound(fan_in) * factor, bound(fan_in) * factor); };
  if (ends_with(name, "embedding.weight")) {
    const std::size_t width = static_cast<std::size_t>(shape.last()), row = static_cast<std::size_t>(n.pad) * width;
    std::vector<double> pad(v.begin() + static_cast<std::ptrdiff_t>(row), v.begin() + static_cast<std::ptrdiff_t>(row + width)), others = v;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(row), others.begin() + static_cast<std::ptrdiff_t>(row + width));
    check_constant(pad, 0);
    check_normal(others);
  } else if (name.starts_with("pos_embs.") || name.starts_with("start_tokens.")) {
    check_normal(v);
  } else if (ends_with(name, "dt_bias") || ends_with(name, "dt_proj.bias")) {
    std::vector<double> logs;  // log(softplus(value)): uniform
    for (const double x : v) logs.push_back(std::log(std::log1p(std::exp(x))));
    check_uniform(logs, std::log(1e-3), std::log(1e-1));
  } else if (ends_with(name, "A_log") && is_mamba2) {
    std::vector<double> values;
    for (const double x : v) values.push_back(std::exp(x));
    check_uniform(values, 1, 16);
  } else if (ends_with(name, "A_log")) {
    for (std::size_t i = 0; i < v.size(); ++i) REQUIRE(v[i] == doctest::Approx(std::log(static_cast<double>(i % static_cast<std::size_t>(n.states) + 1))));
  } else if (ends_with(name, "mixer.D") || ends_with(name, "norm.weight") || ends_with(name, "norm_f.weight") || ends_with(name, "norm.g") ||
             ends_with(name, "1.0.g") || ends_with(name, "_post.1.weight") || ends_with(name, "_post.3.weight")) {
    check_constant(v, 1);
  } else if (ends_with(name, "_post.1.bias") || ends_with(name, "_post.3.bias")) {
    check_constant(v, 0);
  } else if (ends_with(name, "conv1d.weight") || ends_with(name, "conv1d.bias")) {
    linear(n.conv);
  } else if (ends_with(name, "out_proj.weight") && is_mamba2) {
    linear(shape.last(), bound(n.layers));
  } else if (ends_with(name, "dt_proj.weight")) {
    linear(n.rank);
  } else if (shape.rank() == 2 && ends_with(name, ".weight")) {
    linear(shape.last());
  } else {
    return false;  // biases are checked with their weights
  }
  return true;
}

}  // namespace

TEST_CASE("initial values of every parameter follow the specification") {
  const std::string mamba2 = "{d_state: 16, d_conv: 4, expand: 2, headdim: 1, pos_emb_type: fixed}";
  const std::string mamba1 = "{block_type: mamba1, d_state: 16, d_conv: 3, expand: 2, headdim: 8, pos_emb_type: null}";
  const std::string transformer = "{attn_head_dims: 16, attn_num_heads: 4, attn_use_rot_embs: true, pos_emb_type: fixed}";
  const ModelConfig config = config_of("[40, 8, 4]", "[96, 80, 72]", "[4, 2, 2]", "[" + mamba2 + ", " + mamba1 + ", " + transformer + "]");
  const auto model = make_model(config, DType::Float32, 3);
  std::map<std::string, NamedTensor> parameters;
  for (const auto& parameter : model->parameters().parameters()) {
    std::int64_t row = 0;
    for (const ParameterPart& part : parameter->parts()) {
      const Tensor value = part.shape == parameter->shape() ? parameter->value() : parameter->value().slice(row, row + part.shape[0]);
      row += part.shape.rank() > 0 ? part.shape[0] : 0;
      parameters[part.name] = {part.name, value};
    }
  }
  CHECK(parameters.size() > 60);
  std::vector<double> previous;
  for (const auto& [name, parameter] : parameters) {
    CAPTURE(name);
    const Tensor& value = parameter.tensor;
    const std::vector<double> v = value.to_vector_as<double>();
    const bool is_mamba2 = name.starts_with("stage_models.0.");
    const Sizes sizes{.layers = 4, .conv = is_mamba2 ? 4 : 3, .states = 16, .rank = 80 / 16, .pad = config.pad_token_id};
    if (!check_parameter(name, value.shape(), v, sizes, is_mamba2)) {
      REQUIRE(ends_with(name, ".bias"));  // of a linear layer: the bound of its weight
      const Tensor& weight = parameters.at(name.substr(0, name.size() - 4) + "weight").tensor;
      const double bound = 1 / std::sqrt(static_cast<double>(weight.shape().last()));
      check_uniform(v, -bound, bound);
    }
    const bool is_random = statistics_of(v).deviation > 0 && !(ends_with(name, "A_log") && !is_mamba2);
    if (is_random) CHECK(v != previous);  // each parameter has a stream of its own
    if (is_random) previous = v;
  }
}

}  // namespace mblm::testing
