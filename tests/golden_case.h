// Golden cases: numbers that an independent implementation computed in float64 (tests/golden/README.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mblm::testing {

// What one case gave: the worst errors, named, and whether each is within its bound.
struct GoldenResult {
  enum Outcome { Passed, Failed, Skipped } outcome = Passed;
  std::string line;  // "logits 1.2e-07, loss 3e-08, gradients 8e-07 (to_logits.weight)"
  std::vector<std::string> failures;

  // Notes a tensor's error against its bound.
  void check(const std::string& what, double error, double bound);
};

GoldenResult run_forward_case(const std::filesystem::path& folder);   // logits, hidden states, loss, every gradient
GoldenResult run_training_case(const std::filesystem::path& folder);  // losses, rates, norms, final weights, generation

}  // namespace mblm::testing
