// Cases of sums and means over one axis.
#pragma once

#include "tests/op_case.h"

namespace mblm::testing {

// The op over an axis, optionally with its axis kept, and over all elements; `is_mean`: divided by the number of terms.
struct SumOp {
  Tensor (*run)(const Tensor& x, int axis, bool keep_axis);
  Tensor (*run_all)(const Tensor& x);
  bool is_mean = false;
};
std::vector<OpCase> sum_cases(const SumOp& op);

}  // namespace mblm::testing
