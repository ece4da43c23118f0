#include "ops/mean.h"

#include "tests/sum_case.h"

namespace mblm::testing {
namespace {

std::vector<OpCase> cases() { return sum_cases({.run = mean, .run_all = mean, .is_mean = true}); }

const bool added = add_cases("mean", cases);

}  // namespace
}  // namespace mblm::testing
