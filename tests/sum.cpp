#include "ops/sum.h"

#include "tests/sum_case.h"

namespace mblm::testing {
namespace {

std::vector<OpCase> cases() { return sum_cases({.run = sum, .run_all = sum, .is_mean = false}); }

const bool added = add_cases("sum", cases);

}  // namespace
}  // namespace mblm::testing
