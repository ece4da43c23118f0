// Tensors as torch.save describes them: a storage, which is a record of the zip file, and a view of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/pickle_reader.h"
#include "engine/io/zip_reader.h"
#include "engine/tensor.h"

namespace mblm {

// The element type of a storage. float16 is read as float32, int16 and int8 as int32, bool as uint8.
struct TorchElement {
  enum class Stored { Same, Float16, Int16, Int8 };
  std::string_view global;  // its name in the pickle
  std::size_t bytes;        // of one element in the file
  DType dtype;              // of the tensor that is read
  Stored stored;
};

struct TorchTensor {
  std::string name;
  const TorchElement* element = nullptr;
  Shape shape;
  std::vector<std::int64_t> strides;  // in elements; one per axis, 0 or more
  std::size_t begin = 0;              // byte of the first element in the file
};

inline constexpr std::string_view rebuild_tensor_global = "torch._utils _rebuild_tensor_v2";

// The globals that torch.load(weights_only=True) accepts: those of tensors, and those of values that are skipped.
std::vector<std::string_view> torch_globals();
// The storage type that holds elements of `dtype` without conversion.
const TorchElement& torch_element(DType dtype);

// Whether the value is a tensor, a parameter, or either with attributes.
bool is_torch_tensor(const PickleValue& value);
// Checks a description against the records, so that reading the tensor stays within its record. Throws FileError, whose message
// begins with `origin` and names the tensor. `prefix` is the common prefix of the record names.
TorchTensor describe_torch_tensor(const std::string& origin, const std::string& name, const PickleValue& value,
                                  const std::map<std::string, ZipRecord>& records, const std::string& prefix);

// The elements on the CPU: a read-only view of the file if they are row-major, aligned and need no conversion, else a copy.
Tensor read_torch_tensor(const TorchTensor& tensor, const std::shared_ptr<Storage>& file);

}  // namespace mblm
