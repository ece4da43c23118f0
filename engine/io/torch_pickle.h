// Writes the pickle of a file of named tensors, in the form that torch.load reads.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/parameters.h"

namespace mblm {

// Writes a dict, one entry at a time.
class PickleWriter {
 public:
  PickleWriter();
  void add(const std::string& key, double number);
  // Adds an OrderedDict of tensors with the storages first_storage, first_storage + 1, ...
  void add(const std::string& key, const std::vector<NamedTensor>& tensors, std::size_t first_storage);
  std::string finish();

 private:
  void number(std::uint64_t bits, std::size_t bytes);
  void global(std::string_view module_and_name);
  void text(std::string_view value);
  void integer(std::int64_t value);
  void integers(const std::vector<std::int64_t>& values);
  void tensor(const Tensor& value, std::size_t storage);

  std::string out_;
};

}  // namespace mblm
