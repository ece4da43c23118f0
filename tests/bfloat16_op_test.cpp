// Every op on every case with bfloat16 inputs, against the same op in float64 on the same values; and its bits with several thread counts.
#include <doctest/doctest.h>

#include "engine/parallel.h"
#include "tests/each_op_case.h"

namespace mblm::testing {
namespace {

// Random weights of the outputs, exact in bfloat16.
HostArray random_weights(const Shape& shape, std::uint64_t seed) {
  HostArray w(shape);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  for (double& v : w.v) v = static_cast<float>(bfloat16(static_cast<float>(normal(random))));
  return w;
}

// The outputs of a case, then the gradients of its differentiated inputs.
std::vector<Tensor> run_case(const OpCase& c, std::vector<Tensor> inputs) {
  std::vector<Tensor> leaves;
  for (std::size_t i = 0; i < inputs.size() && c.gradient; ++i) {
    if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
    inputs[i] = inputs[i].as_leaf();
    leaves.push_back(inputs[i]);
  }
  std::vector<Tensor> results = c.run(inputs), weights;
  if (leaves.empty()) return results;
  for (std::size_t k = 0; k < results.size(); ++k) weights.push_back(from_host(random_weights(results[k].shape(), k), results[k].dtype()));
  for (const Tensor& gradient : backward(results, weights, leaves)) results.push_back(gradient);
  return results;
}

}  // namespace

TEST_CASE("bfloat16: ops match float64; each gradient has the dtype of its input") {
  for_each_op_case([](const OpCase& c) {
    const std::vector<Tensor> inputs = device_inputs(c, DType::BFloat16), ours = run_case(c, inputs), truth = run_case(c, to_float64(inputs));
    REQUIRE(ours.size() == truth.size());
    std::vector<DType> dtypes;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (c.inputs[i].ids_below == 0 && c.inputs[i].gradient) dtypes.push_back(inputs[i].dtype());
    const std::size_t gradients = c.gradient ? dtypes.size() : 0, outputs = ours.size() - gradients;
    for (std::size_t k = 0; k < ours.size(); ++k) {
      CAPTURE(k);
      const HostArray a = to_host(ours[k]), b = to_host(truth[k]);
      if (k < outputs) {
        CHECK(relative_error(a, b) <= c.bfloat16_bound);
      } else {
        CHECK(ours[k].dtype() == dtypes[k - outputs]);
        const double norm = relative_error(b, HostArray(b.shape)), size = std::max(norm, c.gradient_size);
        CHECK(relative_error(a, b) * (norm > 0 ? norm : 1) <= 2 * c.bfloat16_bound * (size > 0 ? size : 1));
      }
    }
  });
}

TEST_CASE("bfloat16: results have the same bits with 1, 2, 3 and 8 threads") {
  const int before = thread_count();
  for_each_op_case([](const OpCase& c) {
    std::vector<HostArray> first;
    for (const int threads : {1, 2, 3, 8}) {
      set_thread_count(threads);
      std::vector<HostArray> values;
      for (const Tensor& x : run_case(c, device_inputs(c, DType::BFloat16))) values.push_back(to_host(x));
      if (first.empty()) first = values;
      for (std::size_t k = 0; k < values.size(); ++k) {
        CAPTURE(k);
        CAPTURE(threads);
        CHECK(values[k].v == first[k].v);
      }
    }
  });
  set_thread_count(before);
}

}  // namespace mblm::testing
