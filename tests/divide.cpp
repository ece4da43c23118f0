#include "ops/divide.h"

#include "tests/pair_case.h"

namespace mblm::testing {
namespace {

// Divisors far from zero, where the quotient has no pole.
std::vector<OpCase> cases() {
  return pair_cases({.run = divide, .formula = [](double a, double b) { return a / b; }, .b = {.shape = {}, .scale = 0.5, .offset = 4.0}});
}

const bool added = add_cases("divide", cases);

}  // namespace
}  // namespace mblm::testing
