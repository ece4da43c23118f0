#include "train/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>

#include "engine/error.h"

namespace mblm {
namespace {

// Returns false if another process holds a conflicting lock.
bool lock(const FileDescriptor& file, int kind) {
  while (::flock(file.number(), kind | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) return true;
  }
  return true;
}

std::string id_in(const FileDescriptor& file) {
  std::array<char, 32> text;
  const std::int64_t size = read_at(file.number(), text.data(), text.size(), 0);
  const std::string content(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  const std::string id = content.substr(0, content.find_first_not_of("0123456789"));
  return id.empty() ? "unknown" : id;
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& file, const std::filesystem::path& run)
    : file_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (!file_.is_open()) throw_file_error(file, "cannot be written");
  require<FileError>(lock(file_, LOCK_EX), run.string(), ": the run is in use by process ", id_in(file_));
  const std::string id = concat_text(::getpid(), "\n");
  if (::ftruncate(file_.number(), 0) != 0 || ::pwrite(file_.number(), id.data(), id.size(), 0) < 0) throw_file_error(file, "cannot be written");
}

std::string RunLock::holder(const std::filesystem::path& file) {
  const FileDescriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  return !opened.is_open() || lock(opened, LOCK_SH) ? "" : id_in(opened);
}

}  // namespace mblm
