// Reads one or more files as one stream of bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/io/file.h"

namespace mblm {

// A file, or all files of a folder and its subfolders in order of their paths (compared as bytes). Follows links. Skips empty files,
// files that are not regular (pipes), and files and subfolders whose names start with a dot (.DS_Store, .git); `path` itself may be hidden. The constructor checks that each file can
// be opened and reads its size, not its content.
// Reads with pread, not through a memory map: a file that is truncated while in use causes an error instead of a SIGBUS, and
// sequences are copied (to ids) in any case. Thread-safe; threads read at the same time.
class ByteStream {
 public:
  // Throws FileError for a missing path, a folder without files, a file or folder that cannot be read, and a link to a folder that
  // contains the link.
  explicit ByteStream(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::int64_t size() const { return starts_.back(); }  // bytes

  // Reads bytes [position, position + bytes.size()), which may span several files. Throws FileError.
  void read(std::int64_t position, std::span<std::uint8_t> bytes) const;

  // The file and offset of a byte of the stream, for messages: `FILE: offset N`.
  std::string describe(std::int64_t position) const;

  // `FILE` for a single file, else `12 files of FOLDER`.
  std::string describe_files() const;

  // One line for each kind of skipped entry: `FOLDER: 3 skipped (empty), e.g. FILE`.
  std::vector<std::string> warnings() const;

 private:
  using Paths = std::vector<std::filesystem::path>;
  struct LeftOut {
    std::int64_t count = 0;
    std::filesystem::path first = {};
  };

  // Adds the files of `folder` to `files`. `around` contains the enclosing folders.
  void collect_files(const std::filesystem::path& folder, Paths& around, Paths& files);
  void add(const std::filesystem::path& file);
  void leave_out(const std::filesystem::path& path, const char* kind);
  std::size_t file_at(std::int64_t position) const;
  void read_within(std::size_t file, std::int64_t offset, std::span<std::uint8_t> bytes) const;
  std::shared_ptr<const FileDescriptor> open(std::size_t file) const;

  std::filesystem::path path_;
  Paths files_;
  std::vector<std::int64_t> starts_{0};      // start of each file in the stream, then the end of the stream
  std::map<std::string, LeftOut> left_out_;  // by kind
  // The files read last stay open, the last one first. They are few, because data sets can have more files than a process can open.
  // The lock protects the list, not the files: no thread opens, reads or closes a file under it.
  struct OpenFile {
    std::size_t file;
    std::shared_ptr<const FileDescriptor> descriptor;
  };
  static constexpr std::size_t kept_open = 8;
  mutable std::mutex mutex_;
  mutable std::vector<OpenFile> open_;
};

}  // namespace mblm
