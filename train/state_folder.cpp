#include "train/state_folder.h"

#include <algorithm>

#include "engine/io/file.h"
#include "engine/io/folder.h"

namespace mblm {
namespace {

// Returns nothing for a damaged file and appends the reason to `reasons`.
std::optional<SavedState> read_whole(const std::filesystem::path& file, std::string& reasons) {
  try {
    return read_run_state(file);
  } catch (const FileError& error) {
    reasons += concat_text(reasons.empty() ? "" : "; ", error.what());
    return {};
  }
}

}  // namespace

// Numbers have a fixed number of digits, so names sort by number.
std::vector<std::filesystem::path> StateFolder::files() const {
  std::vector<std::filesystem::path> files;
  for (const std::filesystem::path& file : entries_of(folder_)) {
    const std::string name = file.filename();
    if (name.starts_with("state_") && name.ends_with(".safetensors")) files.push_back(file);
  }
  std::sort(files.rbegin(), files.rend());
  return files;
}

std::filesystem::path StateFolder::save(const RunState& state, const std::vector<NamedTensor>& tensors) const {
  std::string number = std::to_string(state.training.micro_step);
  number.insert(0, number.size() < 12 ? 12 - number.size() : 0, '0');
  const std::filesystem::path path = folder_ / ("state_" + number + ".safetensors");
  write_run_state(path, state, tensors);
  std::vector<std::filesystem::path> old = files();
  old.erase(old.begin(), old.begin() + static_cast<std::ptrdiff_t>(std::min(kept, old.size())));
  remove_all_of(old);
  return path;
}

std::optional<NewestState> StateFolder::newest() const {
  NewestState result;
  for (const std::filesystem::path& file : files()) {
    if ((result.saved = read_whole(file, result.reasons))) return result;
    result.damaged.push_back(file);
  }
  require<FileError>(result.damaged.empty(), result.reasons, "; no intact state is left");
  return {};
}

void StateFolder::put_aside_damaged(const NewestState& state, const std::function<void(const std::string&)>& warn) const {
  for (const std::filesystem::path& file : state.damaged) {
    std::error_code error;
    std::filesystem::rename(file, file.string() + ".damaged", error);
    if (error) throw_file_error(file, "cannot be renamed", error.value());
  }
  if (!state.damaged.empty()) warn(concat_text(state.reasons, "; resumes from the previous state, ", state.saved->tensors.path().string()));
}

}  // namespace mblm
