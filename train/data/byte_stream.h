// Files as one stream of bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/io/file.h"

namespace mblm {

// One file, or all files of a folder and of the folders below it, one after the other in order of their paths (bytes compared).
// Links are followed. Left out are empty files, what is no regular file (a pipe) and folders below whose name begins with a dot
// (.git). Opening it looks at the sizes and at whether each file can be read, not at the content.
// Reads with pread, not through a memory map: a file that becomes shorter while in use is then an error message and not a
// SIGBUS, and a sequence is copied (into ids) in any case. Thread-safe.
class ByteStream {
 public:
  // Throws FileError: nothing at `path`, a folder without files, a file or folder that cannot be read, folders that contain
  // themselves by a link.
  explicit ByteStream(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::int64_t size() const { return starts_.back(); }  // bytes

  // Bytes [position, position + bytes.size()), which may cross files. Throws FileError.
  void read(std::int64_t position, std::span<std::uint8_t> bytes) const;

  // The file that a byte of the stream is in, and its place there: `FILE: offset N`, for messages.
  std::string describe(std::int64_t position) const;

  // What a folder holds and the stream leaves out, a line for each kind: `FOLDER: 3 left out (empty), such as FILE`.
  std::vector<std::string> warnings() const;

 private:
  using Paths = std::vector<std::filesystem::path>;
  struct LeftOut {
    std::int64_t count = 0;
    std::filesystem::path first = {};
  };

  void collect_files(const std::filesystem::path& folder, Paths& around, Paths& files);
  void add(const std::filesystem::path& file);
  void leave_out(const std::filesystem::path& path, const char* kind);
  std::size_t file_at(std::int64_t position) const;
  void read_within(std::size_t file, std::int64_t offset, std::span<std::uint8_t> bytes) const;

  std::filesystem::path path_;
  Paths files_;
  std::vector<std::int64_t> starts_{0};  // of each file in the stream, then the end
  std::map<std::string, LeftOut> left_out_;  // by kind
  // The file that was read last stays open: sequences mostly follow each other, and data sets have more files than a
  // process may hold open.
  mutable std::mutex mutex_;
  mutable FileDescriptor open_;
  mutable std::size_t open_file_ = 0;
};

}  // namespace mblm
