// The folder with the last states of a run.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/run_state.h"

namespace mblm {

// The newest intact state and the newer files that are damaged.
struct NewestState {
  std::optional<SavedState> saved = {};
  std::vector<std::filesystem::path> damaged = {};
  std::string reasons = {};
};

// Contains files `state_MICROSTEP.safetensors`. After the first save there is always an intact state.
class StateFolder {
 public:
  static constexpr std::size_t kept = 2;  // number of states

  explicit StateFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Returns the path of the new file. Throws FileError; the existing states do not change then.
  std::filesystem::path save(const RunState& state, const std::vector<NamedTensor>& tensors) const;
  // Returns the newest intact state, or nothing if none was saved. Throws FileError if all states are damaged.
  std::optional<NewestState> newest() const;
  // Renames the damaged states to NAME.damaged, so that they do not count as states at the next save, and reports them with `warn`.
  void put_aside_damaged(const NewestState& state, const std::function<void(const std::string&)>& warn) const;

 private:
  std::vector<std::filesystem::path> files() const;  // newest first

  std::filesystem::path folder_;
};

}  // namespace mblm
