// File descriptors that close themselves, complete reads and writes, and the messages of failed system calls.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

namespace mblm {

// A file descriptor that closes itself.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : number_(number) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  bool is_open() const { return number_ >= 0; }
  int number() const { return number_; }
  // Returns false and sets errno when the system reports a failed write only now.
  bool close();

 private:
  int number_ = -1;
};

// Throws FileError `PATH: WHAT: reason`, where the reason is the text of `error` (errno).
[[noreturn]] void throw_file_error(const std::filesystem::path& path, std::string_view what, int error = errno);

// Writes the content of an open file or folder to disk (fsync). Returns 0, or the errno of a failure.
int flush_to_disk(int file);
// Whether the errno means that the file system does not have the operation (FUSE, old NFS), in contrast to an operation that failed.
bool is_unsupported(int error);

// These functions repeat system calls that a signal interrupts or that finish only a part. `file` is a descriptor number.
// Writes all bytes and returns the number of bytes written; it is smaller only after an error, which errno reports.
std::size_t write_all(int file, const void* data, std::size_t bytes);
// The same at an offset of a regular file; the descriptor's own position does not change.
std::size_t write_at(int file, const void* data, std::size_t bytes, std::int64_t offset);
// Reads the next bytes; otherwise as read_at.
std::int64_t read_all(int file, void* data, std::size_t bytes);
// Reads bytes from `offset` on and returns the number of bytes read; it is smaller only at the end of the file. Returns -1 and
// sets errno after an error.
std::int64_t read_at(int file, void* data, std::size_t bytes, std::int64_t offset);

}  // namespace mblm
