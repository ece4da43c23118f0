#include "ops/multiply.h"

#include "tests/pair_case.h"

namespace mblm::testing {
namespace {

std::vector<OpCase> cases() {
  return pair_cases({.run = multiply, .formula = [](double a, double b) { return a * b; }});
}

const bool added = add_cases("multiply", cases);

}  // namespace
}  // namespace mblm::testing
