#include "ops/subtract.h"

#include "tests/pair_case.h"

namespace mblm::testing {
namespace {

std::vector<OpCase> cases() {
  return pair_cases({.run = subtract, .formula = [](double a, double b) { return a - b; }});
}

const bool added = add_cases("subtract", cases);

}  // namespace
}  // namespace mblm::testing
