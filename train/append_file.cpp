#include "train/append_file.h"

#include <fcntl.h>

#include "train/file_error.h"

namespace mblm {

AppendFile::AppendFile(const std::filesystem::path& path) : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (!file_.is_open()) throw_file_error(path_, "cannot be written");
}

void AppendFile::append(std::string_view text) {
  while (!text.empty()) {  // more than one write only when the disk is full or a signal came
    const ssize_t written = ::write(file_.number(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_file_error(path_, "cannot be written");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace mblm
