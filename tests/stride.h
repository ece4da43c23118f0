// Tests that run a part of their cases, because all of them take minutes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>

namespace mblm::testing {

// MBLM_STRIDE=N, at least 1, runs every N-th case of a list only, unless MBLM_LONG is set.
inline bool is_left_out(std::size_t index) {
  const char* stride = std::getenv("MBLM_STRIDE");
  if (stride == nullptr || std::getenv("MBLM_LONG") != nullptr) return false;
  return index % std::max(1ul, std::strtoul(stride, nullptr, 10)) != 0;
}

}  // namespace mblm::testing
