// Files by their descriptors: closed by themselves, read and written whole, and the messages of system calls that fail.
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
  // False, with errno, where the system tells only now that a write failed.
  bool close();

 private:
  int number_ = -1;
};

// Throws FileError `PATH: WHAT: reason`, with the reason of `error` (errno).
[[noreturn]] void throw_file_error(const std::filesystem::path& path, std::string_view what, int error = errno);

// Both repeat a call that a signal interrupts, or that does only a part. `file` is the number of a descriptor.
// Writes all bytes. Gives how many were written: fewer only where a call failed, and errno says why.
std::size_t write_all(int file, const void* data, std::size_t bytes);
// Reads the bytes from `offset` on. Gives how many were read: fewer only at the end of the file; -1, with errno, where a call failed.
std::int64_t read_at(int file, void* data, std::size_t bytes, std::int64_t offset);

}  // namespace mblm
