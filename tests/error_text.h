// Messages of errors.
#pragma once

#include <string>

namespace mblm::testing {

// The message of the E that f throws, or "no error" if it throws nothing. Other exceptions propagate.
template <class E, class F>
std::string error_text(F&& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace mblm::testing
