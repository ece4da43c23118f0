#include "engine/io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::string_view unfinished = ".tmp";  // and who writes it; behind the file's name
constexpr std::size_t largest_write = std::size_t{1} << 30;  // Linux writes at most 2^31 bytes per call

std::string reason(int error) { return std::generic_category().message(error); }

// Where a chain of links ends, so that renaming replaces the file and not the link.
std::filesystem::path place_of(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  require<FileError>(!error, path.string(), ": expected a link to a file, found a broken one: ", error.message());
  return target;
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(place_of(path)) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path_, error);
  require<FileError>(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), path_.string(),
                     ": expected a place for a file, found ", std::filesystem::is_directory(status) ? "a folder" : "a device or pipe");
  open_temporary();
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

// The name is new in this process and tried again where another one took it, or left it behind.
void AtomicFile::open_temporary() {
  static std::atomic<unsigned> last{0};
  do {
    temporary_ = path_;
    temporary_ += concat_text(unfinished, ::getpid(), "-", ++last);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ >= 0) return;
  const int error = errno;
  temporary_.clear();
  fail("a folder that takes a new file", error);
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(descriptor_, next, std::min(bytes, largest_write));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) {
      const int error = done == 0 ? ENOSPC : errno;
      throw FileError(concat_text(path_.string(), ": expected room for ", bytes, " bytes after the first ", written_, ", found: ", reason(error)));
    }
    next += done;
    bytes -= static_cast<std::size_t>(done);
    written_ += static_cast<std::size_t>(done);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("to flush the file to disk", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("to close the file", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("to put the file in its place", errno);
  temporary_.clear();
  flush_folder();
}

// The rename itself is on disk once the folder is.
void AtomicFile::flush_folder() const {
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail("to open the folder", errno);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (error != 0 && error != EINVAL && error != ENOTSUP) fail("to flush the folder to disk", error);  // some file systems cannot
}

void AtomicFile::fail(const char* wish, int error) const {
  throw FileError(concat_text(path_.string(), ": expected ", wish, ", found: ", reason(error)));
}

void write_file_atomically(const std::filesystem::path& path, const std::string& content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

void remove_unfinished_files(const std::filesystem::path& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    const std::size_t at = name.rfind(unfinished);
    if (at != std::string::npos && name.find_first_not_of("0123456789-", at + unfinished.size()) == std::string::npos) found.push_back(entry.path());
  }
  for (const std::filesystem::path& file : found) std::filesystem::remove(file, error);  // one that stays only takes room
}

}  // namespace mblm
