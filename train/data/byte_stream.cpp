#include "train/data/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "engine/error.h"
#include "engine/io/folder.h"

namespace mblm {
namespace {

FileDescriptor open_to_read(const std::filesystem::path& file) {
  FileDescriptor descriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!descriptor.is_open()) throw_file_error(file, "cannot be read");
  return descriptor;
}

std::int64_t size_of(const FileDescriptor& open, const std::filesystem::path& file) {
  struct stat status {};
  if (::fstat(open.number(), &status) != 0) throw_file_error(file, "cannot be read");
  return status.st_size;
}

}  // namespace

ByteStream::ByteStream(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  require<FileError>(std::filesystem::exists(status), path.string(), ": expected a file or a folder, there is none");
  const bool is_folder = std::filesystem::is_directory(status);
  require<FileError>(is_folder || std::filesystem::is_regular_file(status), path.string(), ": expected a regular file or a folder");
  Paths around, files;
  if (is_folder) collect_files(path, around, files);
  else files.push_back(path);
  require<FileError>(!files.empty(), path.string(), ": expected files, the folder contains none", left_out_.empty() ? "" : " that are not hidden");
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.native() < b.native(); });
  for (const std::filesystem::path& file : files) add(file);
}

void ByteStream::collect_files(const std::filesystem::path& folder, Paths& around, Paths& files) {
  std::error_code ignored;
  for (const std::filesystem::path& outer : around)
    require<FileError>(!std::filesystem::equivalent(outer, folder, ignored), folder.string(), ": expected a folder, got a link to ", outer.string(),
                       ", which contains it");
  around.push_back(folder);
  for (const std::filesystem::path& path : entries_of(folder)) {
    const bool is_folder = std::filesystem::is_directory(path, ignored), is_hidden = path.filename().native().front() == '.';
    if (is_hidden) leave_out(path, is_folder ? "hidden folder" : "hidden file");
    else if (is_folder) collect_files(path, around, files);
    else files.push_back(path);
  }
  around.pop_back();
}

void ByteStream::add(const std::filesystem::path& file) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(file, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) return leave_out(file, "not a regular file");
  const std::int64_t size = size_of(open_to_read(file), file);
  if (size == 0) return leave_out(file, "empty");
  files_.push_back(file);
  starts_.push_back(starts_.back() + size);
}

void ByteStream::leave_out(const std::filesystem::path& path, const char* kind) {
  LeftOut& left_out = left_out_[kind];
  if (left_out.count++ == 0 || path < left_out.first) left_out.first = path;
}

std::vector<std::string> ByteStream::warnings() const {
  std::vector<std::string> lines;
  for (const auto& [kind, left_out] : left_out_)
    lines.push_back(concat_text(path_.string(), ": ", left_out.count, " skipped (", kind, "), e.g. ", left_out.first.string()));
  return lines;
}

std::size_t ByteStream::file_at(std::int64_t position) const {
  return static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) - starts_.begin()) - 1;
}

void ByteStream::read(std::int64_t position, std::span<std::uint8_t> bytes) const {
  const std::int64_t count = static_cast<std::int64_t>(bytes.size());
  require<ValueError>(position >= 0 && position <= size() - count, path_.string(), ": expected a range of bytes in [0, ", size(), "), got [", position,
                      ", ", position + count, ")");
  for (std::size_t file = file_at(position); !bytes.empty(); ++file) {
    const std::int64_t offset = position - starts_[file];
    const std::size_t here = std::min(bytes.size(), static_cast<std::size_t>(starts_[file + 1] - position));
    read_within(file, offset, bytes.first(here));
    bytes = bytes.subspan(here);
    position += static_cast<std::int64_t>(here);
  }
}

void ByteStream::read_within(std::size_t file, std::int64_t offset, std::span<std::uint8_t> bytes) const {
  const std::shared_ptr<const FileDescriptor> descriptor = open(file);
  const std::int64_t got = read_at(descriptor->number(), bytes.data(), bytes.size(), offset);
  if (got < 0) throw_file_error(files_[file], "cannot be read");
  if (got == std::ssize(bytes)) return;
  throw FileError(concat_text(files_[file].string(), ": expected ", starts_[file + 1] - starts_[file], " bytes, found ", size_of(*descriptor, files_[file]),
                              ": the file was truncated while in use"));
}

std::string ByteStream::describe_files() const {
  return files_.size() == 1 ? files_.front().string() : concat_text(files_.size(), " files of ", path_.string());
}

// Two threads may open the same file at once; both descriptors are then valid, and one of them is kept.
std::shared_ptr<const FileDescriptor> ByteStream::open(std::size_t file) const {
  const auto find = [&] { return std::find_if(open_.begin(), open_.end(), [&](const OpenFile& opened) { return opened.file == file; }); };
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = find(); found != open_.end()) {
      std::rotate(open_.begin(), found, found + 1);
      return open_.front().descriptor;
    }
  }
  auto descriptor = std::make_shared<const FileDescriptor>(open_to_read(files_[file]));
  OpenFile closed;  // destroyed after the lock is released
  const std::lock_guard lock(mutex_);
  if (find() == open_.end()) {
    if (open_.size() == kept_open) {
      closed = std::move(open_.back());
      open_.pop_back();
    }
    open_.insert(open_.begin(), {file, descriptor});
  }
  return descriptor;
}

std::string ByteStream::describe(std::int64_t position) const {
  const std::size_t file = file_at(position);
  return concat_text(files_[file].string(), ": offset ", position - starts_[file]);
}

}  // namespace mblm
