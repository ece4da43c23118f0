// Files mapped into memory for reading.
#pragma once

#include <cstddef>
#include <filesystem>

namespace mblm {

// The bytes of a file, read from disk on access. The file must not shrink while it is mapped: the system kills a program
// that accesses bytes beyond the end.
class MappedFile {
 public:
  // Throws FileError unless `path` is a readable regular file. An empty file maps to zero bytes.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mblm
