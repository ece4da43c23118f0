// Reads a file or standard input once, from the front, without keeping it in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/io/file.h"

namespace mblm {

class ByteReader {
 public:
  // `-` is standard input. Throws FileError for a file that cannot be opened and for a folder.
  explicit ByteReader(const std::string& file);

  // For messages: the file, or "standard input".
  const std::string& name() const { return name_; }
  // The bytes of the file, or of the rest of standard input; nothing for a pipe or a device.
  std::optional<std::int64_t> size() const;

  // Fills `out` and returns its size, or at the end of the file the number of bytes that were left. Throws FileError.
  std::size_t read(std::span<std::uint8_t> out);
  // Bytes that read() has returned.
  std::int64_t offset() const { return offset_; }

 private:
  std::string name_;
  FileDescriptor file_;
  std::int64_t offset_ = 0;
};

}  // namespace mblm
