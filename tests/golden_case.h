// Golden cases: numbers that an independent implementation computed in float64 (tests/golden/README.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/dtype.h"

namespace mblm::testing {

// What one case gave: the worst errors, named, and whether each is within its bound.
struct GoldenResult {
  enum Outcome { Passed, Failed, Skipped } outcome = Passed;
  std::string line;  // "logits 1.2e-07, loss 3e-08, gradients 8e-07 (to_logits.weight)"
  std::vector<std::string> failures;

  // Notes a tensor's error against its bound.
  void check(const std::string& what, double error, double bound);
};

// Logits, hidden states, loss and every gradient; of bfloat16 products logits, hidden states and loss.
GoldenResult run_forward_case(const std::filesystem::path& folder, DType precision = DType::Float32);
// Losses, rates, norms, final weights and generation; of bfloat16 products losses and rates.
GoldenResult run_training_case(const std::filesystem::path& folder, DType precision = DType::Float32);

}  // namespace mblm::testing
