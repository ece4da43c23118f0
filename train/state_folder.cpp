#include "train/state_folder.h"

#include <algorithm>

#include "engine/io/file.h"

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

// Renames a damaged file, so that it does not count as a state at the next save.
void put_aside(const std::filesystem::path& file) {
  std::error_code error;
  std::filesystem::rename(file, file.string() + ".damaged", error);
  if (error) throw_file_error(file, "cannot be renamed", error.value());
}

}  // namespace

// Numbers have a fixed number of digits, so names sort by number.
std::vector<std::filesystem::path> StateFolder::files() const {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("state_") && name.ends_with(".safetensors")) files.push_back(entry.path());
  }
  if (error) throw_file_error(folder_, "cannot be read", error.value());
  std::sort(files.rbegin(), files.rend());
  return files;
}

void StateFolder::save(const RunState& state, const std::vector<NamedTensor>& tensors) const {
  std::string number = std::to_string(state.training.micro_step);
  number.insert(0, number.size() < 12 ? 12 - number.size() : 0, '0');
  write_run_state(folder_ / ("state_" + number + ".safetensors"), state, tensors);
  const std::vector<std::filesystem::path> all = files();
  for (std::size_t i = kept; i < all.size(); ++i) {
    std::error_code error;
    std::filesystem::remove(all[i], error);
    if (error) throw_file_error(all[i], "cannot be removed", error.value());
  }
}

std::optional<SavedState> StateFolder::newest(const std::function<void(const std::string&)>& warn) const {
  std::string reasons;
  std::vector<std::filesystem::path> damaged;
  for (const std::filesystem::path& file : files()) {
    if (std::optional<SavedState> saved = read_whole(file, reasons)) {
      for (const std::filesystem::path& other : damaged) put_aside(other);
      if (!damaged.empty()) warn(concat_text(reasons, "; resumes from the previous state, ", file.string()));
      return saved;
    }
    damaged.push_back(file);
  }
  require<FileError>(damaged.empty(), reasons, "; no intact state is left");
  return {};
}

}  // namespace mblm
