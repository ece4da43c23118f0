// Every op on every case, on a CUDA device in float32 and bfloat16 against the CPU in float64: values and gradients.
// MBLM_OPS=rms_norm,gelu restricts the test to these case lists, MBLM_STRIDE (stride.h) to a part of each. The emulated device skips the cases of the benchmarks and other large cases.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/cuda/test_device.h"
#include "tests/each_op_case.h"
#include "tests/stride.h"

namespace mblm::testing {
namespace {

struct Results {
  std::vector<HostArray> outputs, gradients;
  std::vector<DType> output_dtypes;
};

// Runs the case on `device`. The weights of the outputs have the dtypes of `weight_dtypes`, or of the outputs when it is empty.
Results run_case(const OpCase& c, std::vector<Tensor> inputs, const std::vector<HostArray>& weights) {
  std::vector<Tensor> leaves;
  for (std::size_t i = 0; i < inputs.size() && c.gradient; ++i) {
    if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
    inputs[i] = inputs[i].as_leaf();
    leaves.push_back(inputs[i]);
  }
  Results results;
  const std::vector<Tensor> outputs = c.run(inputs);
  std::vector<Tensor> douts;
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    results.outputs.push_back(to_host(outputs[k]));
    results.output_dtypes.push_back(outputs[k].dtype());
    if (k < weights.size()) douts.push_back(from_host(weights[k], outputs[k].dtype(), outputs[k].device()));
  }
  if (weights.empty() || leaves.empty()) return results;
  for (const Tensor& gradient : backward(outputs, douts, leaves)) results.gradients.push_back(to_host(gradient));
  return results;
}

// Random weights of the outputs, exact in bfloat16.
std::vector<HostArray> random_weights(const std::vector<HostArray>& outputs) {
  std::vector<HostArray> all;
  std::mt19937_64 random(17);
  std::normal_distribution<double> normal;
  for (const HostArray& y : outputs) {
    HostArray w(y.shape);
    for (double& v : w.v) v = static_cast<float>(bfloat16(static_cast<float>(normal(random))));
    all.push_back(std::move(w));
  }
  return all;
}

// ||a - b|| / max(||b||, size)
double gradient_error(const HostArray& a, const HostArray& b, double size) {
  const double norm = relative_error(b, HostArray(b.shape)), error = relative_error(a, b);
  return size > norm ? (norm > 0 ? error * norm : error) / size : error;
}

void check_case(const OpCase& c, DType dtype) {
  const std::vector<Tensor> inputs = device_inputs(c, dtype, test_device());
  Results truth = run_case(c, to_float64(inputs), {});
  const std::vector<HostArray> weights = random_weights(truth.outputs);
  truth = run_case(c, to_float64(inputs), weights);
  const Results ours = run_case(c, inputs, weights);
  const double bound = dtype == DType::BFloat16 ? c.bfloat16_bound : c.float32_bound;
  const double gradient_bound = dtype == DType::BFloat16 ? 2 * c.bfloat16_bound : std::max(1e-5, 2 * c.float32_bound);
  REQUIRE(ours.outputs.size() == truth.outputs.size());
  for (std::size_t k = 0; k < truth.outputs.size(); ++k) {
    INFO("output ", k);
    REQUIRE(concat_text(ours.outputs[k].shape) == concat_text(truth.outputs[k].shape));
    CHECK(relative_error(ours.outputs[k], truth.outputs[k]) <= bound);
  }
  REQUIRE(ours.gradients.size() == truth.gradients.size());
  for (std::size_t k = 0; k < truth.gradients.size(); ++k) {
    INFO("gradient ", k);
    CHECK(gradient_error(ours.gradients[k], truth.gradients[k], c.gradient_size) <= gradient_bound);
  }
}

}  // namespace

TEST_CASE("ops on a CUDA device match the CPU in float64") {
  for (const OpCases& list : all_op_cases()) {
    if (!op_is_chosen(list.op)) continue;
    std::size_t index = 0;
    for (const OpCase& c : list.cases()) {
      if (c.gpu_benchmark || ((c.benchmark || c.large) && device_is_emulated()) || is_left_out(index++)) continue;
      for (const DType dtype : {DType::Float32, DType::BFloat16}) {
        const std::string name = concat_text(list.op, ": ", c.name, ", ", dtype);
        CAPTURE(name);
        try {
          check_case(c, dtype);
        } catch (const std::exception& error) {
          FAIL_CHECK(std::string(error.what()));
        }
      }
    }
  }
}

}  // namespace mblm::testing
