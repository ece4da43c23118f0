// Collects the errors of a configuration, so that all of them are reported at once.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/error.h"

namespace mblm {

class Problems {
 public:
  // Ignores a line that is already there: stages that share a block share its errors.
  void add(std::string line) {
    if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) lines_.push_back(std::move(line));
  }
  // Runs f and adds the ConfigError that it throws. Returns whether it threw none.
  template <class F>
  bool attempt(F&& f) {
    try {
      f();
      return true;
    } catch (const ConfigError& error) {
      add(error.what());
      return false;
    }
  }
  std::size_t count() const { return lines_.size(); }
  // Throws a ConfigError with one line per problem if there are any.
  void throw_if_any() const {
    std::string text;
    for (const std::string& line : lines_) text += (text.empty() ? "" : "\n") + line;
    require<ConfigError>(lines_.empty(), text);
  }

 private:
  std::vector<std::string> lines_;
};

}  // namespace mblm
