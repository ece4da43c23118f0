// PyTorch checkpoints: files that torch.save writes for a dict of tensors, or of numbers and dicts of tensors, {"MODEL": {...}, "LOSS": 1.5}.
// Such a file is a zip with a pickle, which describes the tensors, and their storages. Reading executes no code of the pickle.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/io/torch_tensor.h"
#include "engine/parameters.h"

namespace mblm {

class TorchFile {
 public:
  // Maps the file and reads its pickle. Throws FileError, which names the file, for a file of another form or byte order and
  // for errors in the zip and the pickle.
  explicit TorchFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  // The number stored under a key of the dict, if there is one.
  std::optional<double> number(const std::string& key) const;
  // The tensors of the dict stored under a key, in order. Throws FileError, which names the file and the tensor, for a missing
  // dict, for values other than tensors, and for a tensor that does not fit its storage.
  std::vector<TorchTensor> tensors(const std::string& key) const;
  // Whether a dict with a tensor is stored under the key.
  bool has_tensors(const std::string& key) const;
  // The tensors stored at the top of the dict, in order, as torch.save(model.state_dict()) writes them. Skips other values.
  std::vector<TorchTensor> top_tensors() const;
  std::vector<std::string> keys() const;  // of the dict, those that are text
  // The elements on the CPU; the result keeps the mapping alive.
  Tensor read(const TorchTensor& tensor) const { return read_torch_tensor(tensor, contents_); }

 private:
  std::string_view record_text(const std::string& name) const;
  const PickleValue* find(const std::string& key) const;
  std::vector<TorchTensor> described(const PickleValue& dict, bool skips_others) const;

  std::filesystem::path path_;
  std::string prefix_;  // folder in the names of the records
  std::map<std::string, ZipRecord> records_;
  PickleDocument document_;
  std::shared_ptr<Storage> contents_;  // the whole file
};

struct TorchEntry {
  std::string key;
  std::variant<double, std::vector<NamedTensor>> value;
};

// Writes a dict whose tensors are in OrderedDicts, atomically (engine/io/atomic_file.h); torch.load reads it, also with
// weights_only. Throws FileError, which names the file, for undefined tensors and for duplicate names in a dict.
void write_torch_file(const std::filesystem::path& path, const std::vector<TorchEntry>& entries);

}  // namespace mblm
