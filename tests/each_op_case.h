// Runs a check on every op case, and names the case in the messages of failed assertions.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/op_case.h"
#include "tests/stride.h"

namespace mblm::testing {

// MBLM_OPS=rms_norm,gelu restricts tests to the cases of these ops. A name without cases fails the test.
inline bool op_is_chosen(const std::string& op) {
  const char* names = std::getenv("MBLM_OPS");
  if (names == nullptr) return true;
  const std::vector<OpCases>& all = all_op_cases();
  bool chosen = false;
  std::istringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    INFO("MBLM_OPS: ", name);
    REQUIRE(std::any_of(all.begin(), all.end(), [&](const OpCases& one) { return one.op == name; }));
    chosen = chosen || name == op;
  }
  return chosen;
}

// Leaves out the cases that are measured on a GPU only, and with MBLM_STRIDE=N all but every N-th case of an op.
inline void for_each_op_case(const std::function<void(const OpCase&)>& check) {
  for (const OpCases& list : all_op_cases()) {
    if (!op_is_chosen(list.op)) continue;
    std::size_t index = 0;
    for (const OpCase& c : list.cases()) {
      if (c.gpu_benchmark || is_left_out(index++)) continue;
      const std::string name = concat_text(list.op, ": ", c.name);
      CAPTURE(name);
      check(c);
    }
  }
}

}  // namespace mblm::testing
