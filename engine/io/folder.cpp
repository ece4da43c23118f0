#include "engine/io/folder.h"

#include <algorithm>
#include <system_error>

#include "engine/io/file.h"

namespace mblm {
namespace {

std::filesystem::file_status status_of(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::status_known(status)) throw_file_error(path, "cannot be read", error.value());
  return status;
}

}  // namespace

bool path_exists(const std::filesystem::path& path) { return std::filesystem::exists(status_of(path)); }
bool is_folder(const std::filesystem::path& path) { return std::filesystem::is_directory(status_of(path)); }

std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> entries;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) entries.push_back(entry->path());
  if (error) throw_file_error(folder, "cannot be read", error.value());
  std::sort(entries.begin(), entries.end());
  return entries;
}

void remove_all_of(const std::vector<std::filesystem::path>& paths) {
  const std::filesystem::path* first = nullptr;
  std::error_code first_error;
  for (const std::filesystem::path& path : paths) {
    std::error_code error;
    std::filesystem::remove(path, error);
    if (!error || first != nullptr) continue;
    first = &path;
    first_error = error;
  }
  if (first != nullptr) throw_file_error(*first, "cannot be removed", first_error.value());
}

}  // namespace mblm
