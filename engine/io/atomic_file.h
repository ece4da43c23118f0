// Files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "engine/io/file.h"

namespace mblm {

// A file that is written beside its place, flushed to disk and renamed: a reader sees the old file or the whole new one.
// Without commit() the destructor removes what was written. Where `path` is a link, the file that it points to is replaced.
class AtomicFile {
 public:
  // Throws FileError when the folder takes no new file, or when `path` is there and is no ordinary file.
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends. Throws FileError, naming `path`, when not all bytes can be written.
  void write(const void* data, std::size_t bytes);
  // Puts the file in its place. Throws FileError; `path` is as it was then, unless only the flush of the folder failed.
  void commit();

 private:
  void open_temporary();
  void flush_folder() const;
  [[noreturn]] void fail(const std::string& wish, int error) const;

  std::filesystem::path path_, temporary_;
  FileDescriptor file_;
  std::size_t written_ = 0;
};

// Writes a whole small file this way.
void write_file_atomically(const std::filesystem::path& path, const std::string& content);

// Removes what programs that were killed left beside such files. Nobody may be writing in the folder meanwhile.
void remove_unfinished_files(const std::filesystem::path& folder);

}  // namespace mblm
