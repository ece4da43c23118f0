// Every op on every case: against its formula, its gradients against finite differences and in float32, and with several thread counts.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "engine/parallel.h"
#include "tests/each_op_case.h"

namespace mblm::testing {
namespace {

// Compares bits, including NaN and the sign of zero.
bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

// Random weights for an output. The gradient of <weights, y> is tested, which no symmetry of an op cancels.
HostArray random_weights(const Shape& shape, std::uint64_t seed) {
  HostArray w(shape);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  for (double& v : w.v) v = normal(random);
  return w;
}

double weighted_sum(const std::vector<Tensor>& outputs, const std::vector<HostArray>& weights) {
  double sum = 0;
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    const HostArray y = to_host(outputs[k]);
    for (std::size_t i = 0; i < y.v.size(); ++i) sum += y.v[i] * weights[k].v[i];
  }
  return sum;
}

// Outputs, and the gradients of the differentiated inputs in their order.
struct Differentiated {
  std::vector<Tensor> outputs, gradients;
};
Differentiated differentiate(const OpCase& c, DType dtype) {
  std::vector<Tensor> inputs = device_inputs(c, dtype), leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
    inputs[i] = inputs[i].as_leaf();
    leaves.push_back(inputs[i]);
  }
  Differentiated result{c.run(inputs), {}};
  std::vector<Tensor> weights;
  for (std::size_t k = 0; k < result.outputs.size(); ++k)
    weights.push_back(from_host(random_weights(result.outputs[k].shape(), k), result.outputs[k].dtype()));
  result.gradients = backward(result.outputs, weights, leaves);
  return result;
}

void check_gradient(const OpCase& c) {
  const Differentiated ours = differentiate(c, DType::Float64);
  std::vector<HostArray> host = host_inputs(c), weights;
  for (std::size_t k = 0; k < ours.outputs.size(); ++k) weights.push_back(random_weights(ours.outputs[k].shape(), k));
  const NoGradScope no_grad;
  const auto value = [&] {
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < host.size(); ++i)
      inputs.push_back(from_host(host[i], c.inputs[i].ids_below > 0 ? DType::Int64 : DType::Float64));
    return weighted_sum(c.run(inputs), weights);
  };
  std::size_t leaf = 0;
  for (std::size_t i = 0; i < host.size(); ++i) {
    if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
    const HostArray gradient = to_host(ours.gradients[leaf++]);
    double largest = 1;
    for (const double g : gradient.v) largest = std::max(largest, std::abs(g));
    const std::size_t stride = std::max<std::size_t>(1, host[i].v.size() / 64);  // about 64 elements per input at most
    for (std::size_t j = 0; j < host[i].v.size(); j += stride) {
      // Fourth-order differences, so that neither rounding nor curvature reaches the bound of 1e-8.
      const double x = host[i].v[j], h = 1e-3 * (c.inputs[i].scale > 0 ? c.inputs[i].scale : 1.0);
      const auto at = [&](double offset) {
        host[i].v[j] = x + offset;
        return value();
      };
      const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      host[i].v[j] = x;
      INFO("input ", i, " element ", j, ": ours ", gradient.v[j], ", differences ", numeric);
      REQUIRE(std::abs(gradient.v[j] - numeric) <= 1e-8 * largest);
    }
  }
}

// sum_i weight_i y_i of a sum of terms, and the size of its terms: the root of the sum of their squares.
struct WeightedSum {
  double sum = 0, square = 0;
  void add(double weight, double y) {
    sum += weight * y;
    square += weight * weight * y * y;
  }
  double size() const { return std::sqrt(square); }
};

// The derivative along one random direction of all differentiated inputs together. Every element of every gradient takes part, so a wrong
// one shows wherever it is. Fourth-order differences, element by element of the outputs before they are summed: large sums do not cancel.
void check_direction(const OpCase& c) {
  const Differentiated ours = differentiate(c, DType::Float64);
  const std::vector<HostArray> host = host_inputs(c);
  std::vector<HostArray> directions;
  WeightedSum derivative;
  for (std::size_t i = 0, leaf = 0; i < host.size(); ++i) {
    directions.emplace_back(host[i].shape);
    if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
    directions.back() = random_weights(host[i].shape, 1000 + i);
    for (double& v : directions.back().v) v *= c.inputs[i].scale > 0 ? c.inputs[i].scale : 1.0;
    const HostArray gradient = to_host(ours.gradients[leaf++]);
    for (std::size_t j = 0; j < gradient.v.size(); ++j) derivative.add(directions.back().v[j], gradient.v[j]);
  }
  const NoGradScope no_grad;
  const double h = 5e-4;
  const auto at = [&](double offset) {
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < host.size(); ++i) {
      HostArray moved = host[i];
      for (std::size_t j = 0; j < moved.v.size(); ++j) moved.v[j] += offset * directions[i].v[j];
      inputs.push_back(from_host(moved, c.inputs[i].ids_below > 0 ? DType::Int64 : DType::Float64));
    }
    std::vector<HostArray> outputs;
    for (const Tensor& y : c.run(inputs)) outputs.push_back(to_host(y));
    return outputs;
  };
  const std::vector<HostArray> up = at(h), down = at(-h), far_up = at(2 * h), far_down = at(-2 * h);
  WeightedSum numeric, value;
  for (std::size_t k = 0; k < up.size(); ++k) {
    const HostArray weights = random_weights(up[k].shape, k);
    for (std::size_t i = 0; i < weights.v.size(); ++i) {
      numeric.add(weights.v[i], (8 * (up[k].v[i] - down[k].v[i]) - (far_up[k].v[i] - far_down[k].v[i])) / (12 * h));
      value.add(weights.v[i], up[k].v[i]);
    }
  }
  INFO("ours ", derivative.sum, ", differences ", numeric.sum, ", size of the terms ", derivative.size(), ", of the value ", value.size());
  CHECK(std::abs(derivative.sum - numeric.sum) <= 1e-8 * derivative.size() + 1e-11 * value.size());
}

}  // namespace

TEST_CASE("ops match their formulas") {
  for_each_op_case([](const OpCase& c) {
    if (!c.oracle) return;
    const NoGradScope no_grad;
    const std::vector<HostArray> expected = c.oracle(host_inputs(c));
    for (const DType dtype : {DType::Float64, DType::Float32}) {
      const std::vector<Tensor> outputs = c.run(device_inputs(c, dtype));
      REQUIRE(outputs.size() == expected.size());
      for (std::size_t k = 0; k < outputs.size(); ++k) {
        CAPTURE(k);
        REQUIRE(concat_text(outputs[k].shape()) == concat_text(expected[k].shape));
        CHECK(relative_error(to_host(outputs[k]), expected[k]) <= (dtype == DType::Float64 ? 1e-12 : c.float32_bound));
      }
    }
  });
}

TEST_CASE("gradients match finite differences") {
  const int before = thread_count();
  set_thread_count(1);  // thousands of tiny runs: starting threads would take most of the time
  for_each_op_case([](const OpCase& c) {
    if (c.gradient && c.differences && !c.benchmark) check_gradient(c);
  });
  set_thread_count(before);
}

TEST_CASE("the derivative along a random direction of all inputs matches finite differences") {
  for_each_op_case([](const OpCase& c) {
    if (c.gradient) check_direction(c);
  });
}

TEST_CASE("float32 gradients match float64") {
  for_each_op_case([](const OpCase& c) {
    if (!c.gradient) return;
    const Differentiated ours = differentiate(c, DType::Float32), truth = differentiate(c, DType::Float64);
    REQUIRE(ours.gradients.size() == truth.gradients.size());
    for (std::size_t k = 0; k < ours.gradients.size(); ++k) {
      CAPTURE(k);
      const HostArray b = to_host(truth.gradients[k]);
      const double norm = relative_error(b, HostArray(b.shape)), error = relative_error(to_host(ours.gradients[k]), b) * (norm > 0 ? norm : 1);
      CHECK(error <= std::max(1e-5, 2 * c.float32_bound) * std::max(norm, c.gradient_size));
    }
  });
}

TEST_CASE("gradients of parameters are added to their arena") {
  for_each_op_case([](const OpCase& c) {
    if (!c.gradient || c.benchmark) return;
    const Differentiated plain = differentiate(c, DType::Float64);
    std::vector<Tensor> inputs = device_inputs(c, DType::Float64), arena;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
      arena.push_back(from_host(random_weights(inputs[i].shape(), 100 + i), DType::Float64));
      inputs[i].set_history(make_leaf(arena.back()), 0);
    }
    std::vector<HostArray> expected;
    for (const Tensor& view : arena) expected.push_back(to_host(view));
    const std::vector<Tensor> outputs = c.run(inputs);
    std::vector<Tensor> weights;
    for (std::size_t k = 0; k < outputs.size(); ++k) weights.push_back(from_host(random_weights(outputs[k].shape(), k), outputs[k].dtype()));
    backward(outputs, weights);
    for (std::size_t k = 0; k < arena.size(); ++k) {
      const HostArray gradient = to_host(plain.gradients[k]);
      for (std::size_t i = 0; i < gradient.v.size(); ++i) expected[k].v[i] += gradient.v[i];
      CAPTURE(k);
      CHECK(relative_error(to_host(arena[k]), expected[k]) <= 1e-14);
    }
  });
}

TEST_CASE("results have the same bits with 1, 2, 3 and 8 threads") {
  const int before = thread_count();
  for_each_op_case([](const OpCase& c) {
    std::vector<std::vector<double>> first;
    for (const int threads : {1, 2, 3, 8}) {
      set_thread_count(threads);
      std::vector<std::vector<double>> values;
      if (c.gradient) {
        const Differentiated all = differentiate(c, DType::Float32);
        for (const Tensor& x : all.outputs) values.push_back(to_host(x).v);
        for (const Tensor& x : all.gradients) values.push_back(to_host(x).v);
      } else {
        const NoGradScope no_grad;
        for (const Tensor& x : c.run(device_inputs(c, DType::Float32))) values.push_back(to_host(x).v);
      }
      if (first.empty()) first = values;
      REQUIRE(values.size() == first.size());
      for (std::size_t k = 0; k < values.size(); ++k) {
        CAPTURE(k);
        CAPTURE(threads);
        CHECK(same_bits(values[k], first[k]));
      }
    }
  });
  set_thread_count(before);
}

}  // namespace mblm::testing
