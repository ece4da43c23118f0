// What an error says.
#pragma once

#include <string>

namespace mblm::testing {

// The message of the E that f throws; "no error" when it throws none. Other exceptions pass.
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
