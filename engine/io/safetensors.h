// Files of named tensors in the safetensors format (https://github.com/huggingface/safetensors): eight bytes with the
// length of a JSON header, the header, and the concatenated elements of all tensors.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/atomic_file.h"
#include "engine/io/mapped_file.h"
#include "engine/io/safetensors_header.h"
#include "engine/parameters.h"
#include "engine/tensor.h"

namespace mblm {

class SafetensorsFile {
 public:
  // Maps the file and checks its header. Throws FileError, which names the file, for violations of the format
  // (engine/io/safetensors_header.h lists them) and for unsupported element types.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }  // sorted
  bool has(const std::string& name) const { return header_.tensors.count(name) != 0; }
  // Throws FileError when there is no such tensor.
  const Shape& shape(const std::string& name) const { return entry(name).shape; }
  // The elements on the CPU: a read-only view of the file, or a copy if they are misaligned or float16 (read as float32). Throws FileError when
  // there is no such tensor.
  Tensor tensor(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  // Throws FileError unless the content has the checksum that write_checked_safetensors stored.
  void check() const;

 private:
  const SafetensorsEntry& entry(const std::string& name) const;

  std::filesystem::path path_;
  std::vector<std::string> names_;
  SafetensorsHeader header_;
  std::size_t data_begin_ = 0;         // byte of the file where the elements begin
  std::shared_ptr<Storage> contents_;  // the whole file
};

// Writes tensors (copied from their device) in the given order, atomically (engine/io/atomic_file.h): a reader sees the old
// file or the complete new one. Throws FileError, which names the file, also for tensors that the format cannot store:
// undefined tensors, duplicate names, the name "__metadata__", and names that are not UTF-8.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// The same, with the tensors sorted by name and one more entry `checksum` in the metadata: of all names, dtypes, shapes, elements and
// other entries. The format itself detects few damages.
void write_checked_safetensors(const std::filesystem::path& path, std::vector<NamedTensor> tensors, std::map<std::string, std::string> metadata);

}  // namespace mblm
