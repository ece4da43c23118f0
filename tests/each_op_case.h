// Runs a check on every op case, and names the case in the messages of failed assertions.
#pragma once

#include <doctest/doctest.h>

#include <functional>

#include "tests/op_case.h"

namespace mblm::testing {

// Leaves out the cases that are measured on a GPU only.
inline void for_each_op_case(const std::function<void(const OpCase&)>& check) {
  for (const OpCases& list : all_op_cases()) {
    for (const OpCase& c : list.cases()) {
      if (c.gpu_benchmark) continue;
      const std::string name = concat_text(list.op, ": ", c.name);
      CAPTURE(name);
      check(c);
    }
  }
}

}  // namespace mblm::testing
