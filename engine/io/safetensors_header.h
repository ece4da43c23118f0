// The header of a safetensors file:
//   {"__metadata__": {"key": "value", ...}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
// Offsets count from the end of the header; the ranges of the tensors cover the rest of the file exactly once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "engine/dtype.h"
#include "engine/shape.h"

namespace mblm {

inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;  // bytes, as in the reference implementation
inline constexpr std::string_view safetensors_metadata_key = "__metadata__";

// The name of an element type in the header, such as F32.
std::string_view safetensors_dtype(DType dtype);

struct SafetensorsEntry {
  DType dtype = DType::Float32;
  Shape shape;
  std::size_t begin = 0;    // bytes from the end of the header
  bool is_float16 = false;  // the file stores float16; `dtype` is float32

  std::size_t element_bytes() const { return is_float16 ? 2 : size_of(dtype); }  // in the file
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
};

// Reads F32, F64, BF16, I32, I64, U8, F16 as float32, and BOOL as uint8. Throws FileError, which names `path`, for JSON of any other form,
// duplicate keys, other element types, more axes than a Shape supports, sizes whose product overflows, and ranges that do
// not match their shape, overlap, leave a gap, or do not end at the end of the file.
SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text, std::size_t data_bytes);

}  // namespace mblm
