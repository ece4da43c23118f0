#include "engine/io/byte_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/error.h"

namespace mblm {

ByteReader::ByteReader(const std::string& file) : name_(file == "-" ? "standard input" : file) {
  file_ = FileDescriptor(file == "-" ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : ::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file_.is_open()) throw_file_error(name_, "cannot be read");
  struct stat status {};
  if (::fstat(file_.number(), &status) != 0) throw_file_error(name_, "cannot be read");
  require<FileError>(!S_ISDIR(status.st_mode), name_, ": expected a file, found a folder");
}

std::optional<std::int64_t> ByteReader::size() const {
  struct stat status {};
  if (::fstat(file_.number(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  const off_t at = ::lseek(file_.number(), 0, SEEK_CUR);
  return at < 0 ? std::nullopt : std::optional<std::int64_t>(status.st_size - at + offset_);
}

std::size_t ByteReader::read(std::span<std::uint8_t> out) {
  const std::int64_t count = read_all(file_.number(), out.data(), out.size());
  if (count < 0) throw_file_error(name_, "cannot be read");
  offset_ += count;
  return static_cast<std::size_t>(count);
}

}  // namespace mblm
