// Tensors as torch.save describes them: a storage, which is a record of a zip file, and a view of it.
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

// A kind of storage. float16 becomes float32, int16 and int8 become int32, bool becomes uint8.
struct TorchElement {
  enum class Stored { Same, Float16, Int16, Int8 };
  std::string_view global;  // what the pickle calls it
  std::size_t bytes;        // of one element in the file
  DType dtype;              // of the tensor that is made of it
  Stored stored;
};

struct TorchTensor {
  std::string name;
  const TorchElement* element = nullptr;
  Shape shape;
  std::vector<std::int64_t> strides;  // elements; one per axis, none is negative
  std::size_t begin = 0;              // the first element's byte in the file
};

inline constexpr std::string_view rebuild_tensor_global = "torch._utils _rebuild_tensor_v2";

// The globals that pickles with tensors have.
std::vector<std::string_view> torch_globals();
// The storage that holds such elements as they are.
const TorchElement& torch_element(DType dtype);

bool is_torch_tensor(const PickleValue& value);
// Checks a description against the records, so that reading the tensor touches nothing else. `origin` begins the message of
// the FileError, which names the tensor. `prefix` is what the names of the file's records begin with.
TorchTensor describe_torch_tensor(const std::string& origin, const std::string& name, const PickleValue& value,
                                  const std::map<std::string, ZipRecord>& records, const std::string& prefix);

// The elements on the CPU: those of the file, not copied and read only, where they are row-major, aligned and of an element
// type of tensors, else a copy.
Tensor read_torch_tensor(const TorchTensor& tensor, const std::shared_ptr<Storage>& file);

}  // namespace mblm
