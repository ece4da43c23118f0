// The last states of a run, in files.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/run_state.h"

namespace mblm {

// Files `state_MICROSTEP.safetensors`. At no time is there no whole state once one was saved.
class StateFolder {
 public:
  static constexpr std::size_t kept = 2;

  explicit StateFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Throws FileError; then the states are as they were.
  void save(const RunState& state, const std::vector<NamedTensor>& tensors) const;
  // The newest one that is whole; nothing when none was saved. A damaged one that is newer is told by `warn` and renamed to
  // NAME.damaged. Throws FileError when all are damaged.
  std::optional<SavedState> newest(const std::function<void(const std::string&)>& warn) const;

 private:
  std::vector<std::filesystem::path> files() const;  // newest first

  std::filesystem::path folder_;
};

}  // namespace mblm
