#include "engine/io/torch_pickle.h"

#include <algorithm>
#include <bit>

#include "engine/io/pickle_reader.h"
#include "engine/io/torch_tensor.h"

namespace mblm {
namespace {

std::vector<std::int64_t> row_major_strides(const Shape& shape) {
  std::vector<std::int64_t> strides(static_cast<std::size_t>(shape.rank()), 1);
  for (int axis = shape.rank() - 2; axis >= 0; --axis) {
    const auto a = static_cast<std::size_t>(axis);
    strides[a] = strides[a + 1] * std::max<std::int64_t>(1, shape[axis + 1]);
  }
  return strides;
}

}  // namespace

PickleWriter::PickleWriter() : out_("\x80\x02}(") {}  // protocol 2, a dict, a mark

std::string PickleWriter::finish() { return std::move(out_ += "u."); }

void PickleWriter::number(std::uint64_t bits, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) out_ += static_cast<char>(bits >> (8 * i));
}

void PickleWriter::global(std::string_view module_and_name) {
  const std::size_t space = module_and_name.find(' ');
  out_ += concat_text('c', module_and_name.substr(0, space), '\n', module_and_name.substr(space + 1), '\n');
}

void PickleWriter::text(std::string_view value) {
  out_ += 'X';
  number(value.size(), 4);
  out_ += value;
}

void PickleWriter::integer(std::int64_t value) {
  out_ += "\x8a\x08";
  number(static_cast<std::uint64_t>(value), 8);
}

void PickleWriter::integers(const std::vector<std::int64_t>& values) {
  out_ += '(';
  for (const std::int64_t value : values) integer(value);
  out_ += 't';
}

void PickleWriter::add(const std::string& key, double value) {
  text(key);
  out_ += 'G';
  const auto bits = std::bit_cast<std::uint64_t>(value);
  for (int shift = 56; shift >= 0; shift -= 8) out_ += static_cast<char>(bits >> shift);
}

void PickleWriter::add(const std::string& key, const std::vector<NamedTensor>& tensors, std::size_t first_storage) {
  text(key);
  global(ordered_dict);
  out_ += ")R(";
  for (const NamedTensor& named : tensors) {
    text(named.name);
    tensor(named.tensor, first_storage++);
  }
  out_ += 'u';
}

// _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks), where the storage is a persistent id.
void PickleWriter::tensor(const Tensor& value, std::size_t storage) {
  global(rebuild_tensor_global);
  out_ += "((";
  text("storage");
  global(torch_element(value.dtype()).global);
  text(std::to_string(storage));
  text("cpu");
  integer(value.numel());
  out_ += "tQ";
  integer(0);
  integers({value.shape().begin(), value.shape().end()});
  integers(row_major_strides(value.shape()));
  out_ += '\x89';
  global(ordered_dict);
  out_ += ")RtR";
}

}  // namespace mblm
