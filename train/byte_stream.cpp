#include "train/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "train/file_error.h"

namespace mblm {
namespace {

FileDescriptor open_to_read(const std::filesystem::path& file) {
  FileDescriptor descriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!descriptor.is_open()) throw_file_error(file, "cannot be read");
  return descriptor;
}

std::vector<std::filesystem::path> files_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error))
    if (!entry->is_directory()) files.push_back(entry->path());
  if (error) throw_file_error(folder, "cannot be read", error.value());
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.native() < b.native(); });
  return files;
}

}  // namespace

ByteStream::ByteStream(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  require<FileError>(std::filesystem::exists(status), path.string(), ": expected a file or a folder, found nothing");
  if (!std::filesystem::is_directory(status)) {
    add(path);
    return;
  }
  const std::vector<std::filesystem::path> files = files_of(path);
  require<FileError>(!files.empty(), path.string(), ": expected files, found an empty folder");
  for (const std::filesystem::path& file : files) add(file);
}

void ByteStream::add(const std::filesystem::path& file) {
  const FileDescriptor descriptor = open_to_read(file);
  struct stat status {};
  if (::fstat(descriptor.number(), &status) != 0) throw_file_error(file, "cannot be read");
  require<FileError>(S_ISREG(status.st_mode), file.string(), ": expected a regular file");
  if (status.st_size == 0) return;
  files_.push_back(file);
  starts_.push_back(starts_.back() + status.st_size);
}

std::size_t ByteStream::file_at(std::int64_t position) const {
  return static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) - starts_.begin()) - 1;
}

void ByteStream::read(std::int64_t position, std::span<std::uint8_t> bytes) const {
  const std::int64_t count = static_cast<std::int64_t>(bytes.size());
  require<ValueError>(position >= 0 && position <= size() - count, path_.string(), ": bytes ", position, " to ", position + count, " of ", size());
  for (std::size_t file = file_at(position); !bytes.empty(); ++file) {
    const std::int64_t offset = position - starts_[file];
    const std::size_t here = std::min(bytes.size(), static_cast<std::size_t>(starts_[file + 1] - position));
    read_within(file, offset, bytes.first(here));
    bytes = bytes.subspan(here);
    position += static_cast<std::int64_t>(here);
  }
}

void ByteStream::read_within(std::size_t file, std::int64_t offset, std::span<std::uint8_t> bytes) const {
  const std::lock_guard lock(mutex_);
  if (!open_.is_open() || open_file_ != file) {
    open_ = open_to_read(files_[file]);
    open_file_ = file;
  }
  while (!bytes.empty()) {
    const ssize_t got = ::pread(open_.number(), bytes.data(), bytes.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_file_error(files_[file], "cannot be read");
    require<FileError>(got > 0, files_[file].string(), ": expected ", starts_[file + 1] - starts_[file], " bytes, found ", offset,
                       ": the file became shorter while in use");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
}

std::string ByteStream::describe(std::int64_t position) const {
  const std::size_t file = file_at(position);
  return concat_text(files_[file].string(), ": offset ", position - starts_[file]);
}

}  // namespace mblm
