#include "train/run_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <system_error>

#include "engine/error.h"

namespace mblm {
namespace {

// Runs F_OFD_SETLK or F_OFD_GETLK for a lock of the whole file. Returns 0 or the errno.
int lock_command(const FileDescriptor& file, int command, struct flock& lock) {
  lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  int result;
  do result = ::fcntl(file.number(), command, &lock);
  while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
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
  struct flock lock;
  const int error = lock_command(file_, F_OFD_SETLK, lock);
  require<FileError>(error != EAGAIN && error != EACCES, run.string(), ": the run is in use by process ", id_in(file_));
  if (error != 0 && !is_unsupported(error)) throw_file_error(file, "cannot be locked", error);
  if (error != 0)
    warning_ = concat_text(run.string(), ": the file system has no locks (", std::generic_category().message(error),
                           "): two processes that use this run at the same time damage it");
  const std::string id = concat_text(::getpid(), "\n");
  if (::ftruncate(file_.number(), 0) != 0 || ::pwrite(file_.number(), id.data(), id.size(), 0) < 0) throw_file_error(file, "cannot be written");
}

std::string RunLock::holder(const std::filesystem::path& file) {
  const FileDescriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened.is_open()) return "";
  struct flock lock;
  return lock_command(opened, F_OFD_GETLK, lock) != 0 || lock.l_type == F_UNLCK ? "" : id_in(opened);
}

}  // namespace mblm
