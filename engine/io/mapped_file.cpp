#include "engine/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "engine/error.h"

namespace mblm {
namespace {

class Descriptor {
 public:
  // Not blocking: a pipe without a writer is refused below instead of waited for.
  explicit Descriptor(const char* path) : value_(::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail(const std::filesystem::path& path, int error) {
  throw FileError(concat_text(path.string(), ": expected a file that can be read, found: ", std::generic_category().message(error)));
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor file(path.c_str());
  struct stat status {};
  if (file.value() < 0 || ::fstat(file.value(), &status) != 0) fail(path, errno);
  require<FileError>(S_ISREG(status.st_mode), path.string(), ": expected a file, found ", S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value(), 0);
  if (data == MAP_FAILED) fail(path, errno);
  data_ = static_cast<std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace mblm
