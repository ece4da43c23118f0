// Ends a sequence of generated ids at given texts.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mblm {

// Passes ids on, except for those of a stop text: ids that may begin one are held back until it is known whether they do.
class StopText {
 public:
  explicit StopText(std::vector<std::string> texts);  // throws ValueError for an empty text

  // Adds the next id. Returns the ids that are now known not to belong to a stop text.
  std::vector<std::int64_t> push(std::int64_t id);
  // True once a stop text is complete, which has been removed. Then no id may be added.
  bool stopped() const { return stopped_; }
  // At the end of the sequence: the ids that are held back.
  std::vector<std::int64_t> flush();

 private:
  const std::vector<std::string> texts_;
  std::vector<std::int64_t> held_;
  bool stopped_ = false;
};

}  // namespace mblm
