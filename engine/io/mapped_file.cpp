#include "engine/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "engine/error.h"
#include "engine/io/file.h"

namespace mblm {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path) { throw_file_error(path, "cannot read the file"); }

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  // Nonblocking, so that a pipe without a writer is rejected below instead of blocking.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!file.is_open() || ::fstat(file.number(), &status) != 0) fail(path);
  require<FileError>(S_ISREG(status.st_mode), path.string(), ": expected a file, found ", S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (data == MAP_FAILED) fail(path);
  data_ = static_cast<std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace mblm
