// The pickle of a file of named tensors, as torch.load reads it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/parameters.h"

namespace mblm {

// A dict, entry by entry.
class PickleWriter {
 public:
  PickleWriter();
  void add(const std::string& key, double number);
  // An OrderedDict of tensors, whose storages are first_storage, first_storage + 1, ...
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
