// Files mapped into memory for reading.
#pragma once

#include <cstddef>
#include <filesystem>

namespace mblm {

// The bytes of a file, read from disk as they are touched. The file must not shrink while it is mapped: the system ends a
// program that touches bytes that are gone.
class MappedFile {
 public:
  // Throws FileError when there is no ordinary file that can be read. An empty file maps to zero bytes.
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
