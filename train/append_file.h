// A file that grows by whole lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "engine/io/file.h"

namespace mblm {

// Each append is one write at the end of the file, so that a reader sees whole lines. Errors are FileErrors.
class AppendFile {
 public:
  // Opens the file, and makes it when it is not there.
  explicit AppendFile(const std::filesystem::path& path);
  void append(std::string_view text);
  // What was appended is on disk then.
  void flush();
  // Cuts the file after so many lines. Throws FileError when it has fewer.
  void keep_lines(std::int64_t lines);

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

}  // namespace mblm
