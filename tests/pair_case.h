// Cases of element-wise ops of two tensors, with equal shapes and with shapes that broadcast.
#pragma once

#include "tests/op_case.h"

namespace mblm::testing {

struct PairOp {
  Tensor (*run)(const Tensor& a, const Tensor& b);
  double (*formula)(double a, double b);
  CaseInput b = {};  // scale and offset of the second operand
};
std::vector<OpCase> pair_cases(const PairOp& op);

}  // namespace mblm::testing
