// Files of named tensors in the safetensors format (https://github.com/huggingface/safetensors).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/parameters.h"
#include "engine/tensor.h"

namespace mblm {

// A file mapped into memory for reading. Tensors made from it keep it alive.
class MappedFile {
 public:
  // Throws FileError when the file cannot be read. An empty file maps to zero bytes.
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

class SafetensorsFile {
 public:
  // Maps the file and checks its header. Throws FileError, naming the file, for anything that the format does not allow:
  // a length beyond the file, JSON that is not the header's form, unknown element types, shapes that overflow or do not
  // match their byte range, ranges that overlap or leave holes.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }  // sorted
  bool has(const std::string& name) const { return entries_.count(name) != 0; }
  // The elements as they lie in the file, on the CPU, not copied: read only. BOOL is given as uint8.
  // Throws FileError when there is no such tensor.
  Tensor tensor(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    DType dtype;
    Shape shape;
    std::size_t begin;
  };
  std::filesystem::path path_;
  std::shared_ptr<MappedFile> file_;
  std::vector<std::string> names_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Writes tensors (copied from their device) in the order given. The file is written beside `path`, flushed to disk and
// renamed: a reader sees the old file or the whole new one. Throws FileError, and then `path` is as it was.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors, const std::map<std::string, std::string>& metadata = {});

// Writes a whole small file the same way.
void write_file_atomically(const std::filesystem::path& path, const std::string& content);

}  // namespace mblm
