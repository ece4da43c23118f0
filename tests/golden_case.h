// Golden cases: results of an independent implementation in float64 (tests/golden/README.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/dtype.h"

namespace mblm::testing {

// The result of a case: the worst errors with names, and whether all are within their bounds.
struct GoldenResult {
  enum Outcome { Passed, Failed, Skipped } outcome = Passed;
  std::string line;  // "logits 1.2e-07, loss 3e-08, gradients 8e-07 (to_logits.weight)"
  std::vector<std::string> failures;

  // Records the error of a tensor and compares it with its bound.
  void check(const std::string& what, double error, double bound);
};

// Checks logits, hidden states, loss and gradients.
GoldenResult run_forward_case(const std::filesystem::path& folder, DType precision = DType::Float32, Device device = {});
// Checks losses, learning rates, gradient norms, final weights and generation; in bfloat16 losses and learning rates.
GoldenResult run_training_case(const std::filesystem::path& folder, DType precision = DType::Float32, Device device = {});

}  // namespace mblm::testing
