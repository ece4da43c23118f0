#include "ops/add.h"

#include "tests/pair_case.h"

namespace mblm::testing {
namespace {

std::vector<OpCase> cases() {
  return pair_cases({.run = add, .formula = [](double a, double b) { return a + b; }});
}

const bool added = add_cases("add", cases);

}  // namespace
}  // namespace mblm::testing
