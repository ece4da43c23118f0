// Files that are written completely or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "engine/io/file.h"

namespace mblm {

// Writes to a temporary file in the same folder, flushes it to disk and renames it: a reader sees the old file or the complete
// new one. Without commit() the destructor removes the temporary file. If `path` is a link, its target is replaced. On file systems that
// cannot flush, a power failure may lose the file; a run warns about that (train/run_folder.h).
class AtomicFile {
 public:
  // Throws FileError when no file can be created in the folder, or when `path` exists and is not a regular file.
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends. Throws FileError, which names `path`, when not all bytes can be written.
  void write(const void* data, std::size_t bytes);
  // Writes at an offset: over bytes written before, or beyond them. write() continues where it was. Throws as write().
  void write_at(std::size_t offset, const void* data, std::size_t bytes);
  // Replaces `path` with the written file. Throws FileError; `path` is then unchanged, unless only the flush of the folder failed.
  void commit();

 private:
  void open_temporary();
  void flush_folder() const;
  [[noreturn]] void fail(const std::string& what, int error) const;

  std::filesystem::path path_, temporary_;
  FileDescriptor file_;
  std::size_t written_ = 0;
};

// Writes a small file atomically in one call.
void write_file_atomically(const std::filesystem::path& path, const std::string& content);

// Removes temporary files that killed programs left in the folder. No program may write files there at the same time.
// Throws FileError if the folder cannot be read.
void remove_unfinished_files(const std::filesystem::path& folder);

}  // namespace mblm
