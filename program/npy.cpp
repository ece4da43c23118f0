#include "program/npy.h"

namespace mblm {
namespace {

constexpr std::size_t alignment = 64;  // of the elements in the file

const char* descr_of(DType dtype) {
  switch (dtype) {
    case DType::Float32:
      return "<f4";
    case DType::Float64:
      return "<f8";
    case DType::Int32:
      return "<i4";
    case DType::Int64:
      return "<i8";
    case DType::UInt8:
      return "|u1";
    case DType::BFloat16:
      break;
  }
  throw DTypeError(concat_text("npy: expected elements that NumPy knows, got ", dtype));
}

// A tuple of Python: (2, 3), (2,), ().
std::string tuple_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return concat_text('(', text, shape.rank() == 1 ? ",)" : ")");
}

}  // namespace

std::string npy_file(const Tensor& x) {
  std::string file("\x93NUMPY\x01\x00\x00\x00", 10);  // the last two bytes are the header's length
  file += concat_text("{'descr': '", descr_of(x.dtype()), "', 'fortran_order': False, 'shape': ", tuple_of(x.shape()), ", }");
  file.resize((file.size() + 1 + alignment - 1) / alignment * alignment - 1, ' ');
  file += '\n';
  const std::size_t header = file.size() - 10;
  file[8] = static_cast<char>(header & 0xff);
  file[9] = static_cast<char>(header >> 8);
  file.resize(file.size() + x.bytes());
  x.to_host(file.data() + file.size() - x.bytes());
  return file;
}

}  // namespace mblm
