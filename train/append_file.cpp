#include "train/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "engine/error.h"
#include "engine/io/mapped_file.h"

namespace mblm {

AppendFile::AppendFile(const std::filesystem::path& path) : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (!file_.is_open()) throw_file_error(path_, "cannot be written");
}

void AppendFile::append(std::string_view text) {
  if (write_all(file_.number(), text.data(), text.size()) < text.size()) throw_file_error(path_, "cannot be written");
}

void AppendFile::flush() {
  if (::fsync(file_.number()) != 0) throw_file_error(path_, "cannot be flushed to disk");
}

void AppendFile::keep_lines(std::int64_t lines) {
  std::size_t end = 0;
  {
    const MappedFile content(path_);
    const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
    for (std::int64_t line = 0; line < lines; ++line) {
      const std::size_t at = text.find('\n', end);
      require<FileError>(at != std::string_view::npos, path_.string(), ": expected at least ", lines, " lines, found ", line);
      end = at + 1;
    }
  }
  if (::ftruncate(file_.number(), static_cast<off_t>(end)) != 0) throw_file_error(path_, "cannot be cut");
}

}  // namespace mblm
