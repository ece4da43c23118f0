#include "engine/io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <string_view>
#include <vector>

#include "engine/error.h"
#include "engine/io/folder.h"

namespace mblm {
namespace {

constexpr std::string_view unfinished = ".tmp";  // follows the file's name; the process id and a counter follow it

// Resolves links, so that renaming replaces the file and not the link.
std::filesystem::path place_of(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  require<FileError>(!error, path.string(), ": expected a link to a file, found a broken link: ", error.message());
  return target;
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(place_of(path)) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path_, error);
  require<FileError>(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), path_.string(),
                     ": expected a file, found ", std::filesystem::is_directory(status) ? "a folder" : "a device or pipe");
  open_temporary();
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

// Names are unique within the process; a name that exists, in use or left by a killed process, is skipped.
void AtomicFile::open_temporary() {
  static std::atomic<unsigned> last{0};
  do {
    temporary_ = path_;
    temporary_ += concat_text(unfinished, ::getpid(), "-", ++last);
    file_ = FileDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  } while (!file_.is_open() && errno == EEXIST);
  if (file_.is_open()) return;
  const int error = errno;
  temporary_.clear();
  fail("cannot create the file", error);
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const std::size_t done = write_all(file_.number(), data, bytes);
  const int error = errno;
  written_ += done;
  if (done < bytes) fail(concat_text("cannot write ", bytes - done, " bytes after the first ", written_), error);
}

void AtomicFile::write_at(std::size_t offset, const void* data, std::size_t bytes) {
  const std::size_t done = mblm::write_at(file_.number(), data, bytes, static_cast<std::int64_t>(offset));
  const int error = errno;
  if (done < bytes) fail(concat_text("cannot write ", bytes - done, " bytes at ", offset + done), error);
}

void AtomicFile::commit() {
  if (const int error = flush_to_disk(file_.number()); error != 0 && !is_unsupported(error)) fail("cannot flush the file to disk", error);
  if (!file_.close()) fail("cannot close the file", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot rename the temporary file", errno);
  temporary_.clear();
  flush_folder();
}

// Makes the rename durable: it is on disk once the folder is flushed.
void AtomicFile::flush_folder() const {
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  const FileDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open()) fail("cannot open the folder", errno);
  if (const int error = flush_to_disk(descriptor.number()); error != 0 && !is_unsupported(error)) fail("cannot flush the folder to disk", error);
}

void AtomicFile::fail(const std::string& what, int error) const { throw_file_error(path_, what, error); }

void write_file_atomically(const std::filesystem::path& path, const std::string& content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

void remove_unfinished_files(const std::filesystem::path& folder) {
  for (const std::filesystem::path& file : entries_of(folder)) {
    const std::string name = file.filename();
    const std::size_t at = name.rfind(unfinished);
    std::error_code ignored;  // a file that remains only uses disk space
    if (at != std::string::npos && name.find_first_not_of("0123456789-", at + unfinished.size()) == std::string::npos) std::filesystem::remove(file, ignored);
  }
}

}  // namespace mblm
