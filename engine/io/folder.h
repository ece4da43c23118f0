// Questions about files and folders. Failures are FileError; std::filesystem's own functions throw an exception of another type, and so
// does its directory_iterator in a range-based for loop.
#pragma once

#include <filesystem>
#include <vector>

namespace mblm {

// Whether there is something at the path, and whether it is a folder, following links. Both are false for a broken link. Throw FileError
// when the system cannot tell, for example for lack of permission.
bool path_exists(const std::filesystem::path& path);
bool is_folder(const std::filesystem::path& path);

// The paths of everything in the folder, sorted. Throws FileError `FOLDER: cannot be read: reason`.
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder);

// Removes the files, and the folders that are empty; a missing one is not an error. After a failure it removes the others, then throws
// FileError, which names the first path that remains.
void remove_all_of(const std::vector<std::filesystem::path>& paths);

}  // namespace mblm
