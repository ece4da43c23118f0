#include "engine/io/torch_tensor.h"

#include <bit>
#include <cstring>
#include <optional>
#include <span>

#include "engine/error.h"

namespace mblm {
namespace {

using Kind = PickleValue::Kind;
using Stored = TorchElement::Stored;

constexpr TorchElement elements[] = {
    {"torch FloatStorage", 4, DType::Float32, Stored::Same},     {"torch DoubleStorage", 8, DType::Float64, Stored::Same},
    {"torch BFloat16Storage", 2, DType::BFloat16, Stored::Same}, {"torch HalfStorage", 2, DType::Float32, Stored::Float16},
    {"torch LongStorage", 8, DType::Int64, Stored::Same},        {"torch IntStorage", 4, DType::Int32, Stored::Same},
    {"torch ShortStorage", 2, DType::Int32, Stored::Int16},      {"torch CharStorage", 1, DType::Int32, Stored::Int8},
    {"torch ByteStorage", 1, DType::UInt8, Stored::Same},        {"torch BoolStorage", 1, DType::UInt8, Stored::Same}};

constexpr std::string_view rebuild_parameter_global = "torch._utils _rebuild_parameter";

bool is_call_of(const PickleValue& value, std::string_view global) { return value.kind == Kind::Call && value.items[0]->text == global; }

struct TorchStorage {
  const TorchElement* element;
  std::uint64_t elements;
  std::size_t begin;
};

// Reads the description of one tensor.
class Describer {
 public:
  Describer(const std::string& origin, const std::string& name, const std::map<std::string, ZipRecord>& records, const std::string& prefix)
      : origin_(origin), name_(name), records_(records), prefix_(prefix) {}

  TorchTensor run(const PickleValue& value) const {
    check(is_torch_tensor(value), "a tensor", "something else");
    const PickleValue* call = &value;
    if (is_call_of(value, rebuild_parameter_global)) {
      const auto& arguments = value.items[1]->items;
      check(!arguments.empty() && is_call_of(*arguments[0], rebuild_tensor_global), "a parameter with a tensor", "something else");
      call = arguments[0];
    }
    return rebuild(call->items[1]->items);
  }

 private:
  template <class... Found>
  void check(bool ok, std::string_view wish, const Found&... found) const {
    require<FileError>(ok, origin_, ": tensor ", ok ? "" : shown_text(name_), ": expected ", wish, ", found ", found...);
  }

  // (storage, offset, sizes, strides, requires_grad, hooks, metadata)
  TorchTensor rebuild(const std::vector<const PickleValue*>& arguments) const {
    check(arguments.size() >= 4 && arguments.size() <= 7, "a storage, an offset, sizes and strides", arguments.size(), " arguments");
    check(arguments.size() < 7 || arguments[6]->items.empty(), "plain elements", "conjugated or negated elements");
    const TorchStorage storage = read_storage(*arguments[0]);
    const std::int64_t offset = read_count(*arguments[1], "an offset of 0 or more");
    TorchTensor tensor{.name = name_, .element = storage.element, .shape = read_shape(*arguments[2]), .strides = {}, .begin = storage.begin};
    tensor.strides = read_counts(*arguments[3], "strides of 0 or more");
    check(tensor.strides.size() == static_cast<std::size_t>(tensor.shape.rank()), "one stride per axis", tensor.strides.size(), " for shape ",
          tensor.shape);
    check_extent(tensor, storage, offset);
    for (int axis = 0; axis < tensor.shape.rank(); ++axis)  // the stride of an axis of size 1 is arbitrary and unused
      if (tensor.shape[axis] == 1) tensor.strides[static_cast<std::size_t>(axis)] = 0;
    if (tensor.shape.numel() > 0) tensor.begin += static_cast<std::size_t>(offset) * storage.element->bytes;
    return tensor;
  }

  // ("storage", kind, key, device, number of elements)
  TorchStorage read_storage(const PickleValue& value) const {
    const bool is_id = value.kind == Kind::Persistent && value.items[0]->kind == Kind::Tuple && value.items[0]->items.size() == 5;
    check(is_id, "a storage", "something else");
    const auto& id = value.items[0]->items;
    check(id[0]->kind == Kind::Text && id[0]->text == "storage" && id[2]->kind == Kind::Text, "a storage with a key", "something else");
    const TorchElement* const element = find_element(*id[1]);
    check(element != nullptr, "a known kind of storage", id[1]->kind == Kind::Global ? shown_text(id[1]->text) : "something else");
    const auto count = static_cast<std::uint64_t>(read_count(*id[4], "a storage of 0 or more elements"));
    const auto record = records_.find(prefix_ + "data/" + id[2]->text);
    check(record != records_.end(), "a record for its storage", "no record ", shown_text(id[2]->text));
    check(record->second.stored, "an uncompressed storage", "a compressed or encrypted one");
    check(count <= record->second.bytes / element->bytes, "a storage that fits in its record", count, " elements of ", element->bytes,
          " bytes in a record of ", record->second.bytes, " bytes");
    return {element, count, record->second.begin};
  }

  static const TorchElement* find_element(const PickleValue& value) {
    if (value.kind != Kind::Global) return nullptr;
    for (const TorchElement& element : elements)
      if (element.global == value.text) return &element;
    return nullptr;
  }

  std::int64_t read_count(const PickleValue& value, std::string_view wish) const {
    check(value.kind == Kind::Integer, wish, "something else");
    check(value.integer >= 0, wish, value.integer);
    return value.integer;
  }
  std::vector<std::int64_t> read_counts(const PickleValue& value, std::string_view wish) const {
    check(value.kind == Kind::Tuple, wish, "something else");
    std::vector<std::int64_t> counts;
    for (const PickleValue* item : value.items) counts.push_back(read_count(*item, wish));
    return counts;
  }
  Shape read_shape(const PickleValue& value) const {
    const std::vector<std::int64_t> sizes = read_counts(value, "sizes of 0 or more");
    try {
      return Shape(std::span<const std::int64_t>(sizes));
    } catch (const ShapeError& error) {
      check(false, "a valid shape", error.what());
      throw;
    }
  }

  // Checks that the last element is within the storage, and limits repeated elements (strides of 0), so that a small file cannot
  // fill the memory.
  void check_extent(const TorchTensor& tensor, const TorchStorage& storage, std::int64_t offset) const {
    if (tensor.shape.numel() == 0) return;
    std::int64_t last = offset;
    for (int axis = 0; axis < tensor.shape.rank(); ++axis) {
      std::int64_t reach = 0;
      const bool fits = !__builtin_mul_overflow(tensor.shape[axis] - 1, tensor.strides[static_cast<std::size_t>(axis)], &reach) &&
                        !__builtin_add_overflow(last, reach, &last);
      check(fits, "strides below 2^63", "an overflow");
    }
    check(static_cast<std::uint64_t>(last) < storage.elements, "elements within the storage", "element ", last, " of ", storage.elements);
    constexpr std::int64_t most_repeats = 4096;
    check(tensor.shape.numel() / most_repeats <= static_cast<std::int64_t>(storage.elements), "at most 4096 elements per element of the storage", "shape ",
          tensor.shape, " over ", storage.elements, " elements");
  }

  const std::string &origin_, &name_;
  const std::map<std::string, ZipRecord>& records_;
  const std::string& prefix_;
};

bool is_row_major(const TorchTensor& tensor) {
  std::int64_t step = 1;
  for (int axis = tensor.shape.rank() - 1; axis >= 0; --axis) {
    const std::int64_t size = tensor.shape[axis];
    if (size != 1 && tensor.strides[static_cast<std::size_t>(axis)] != step) return false;
    step *= size;
  }
  return true;
}

float float_of_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
  if (exponent == 0) {  // fraction * 2^-24
    const float tiny = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -tiny : tiny;
  }
  const std::uint32_t high = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | high << 23 | fraction << 13);
}

// Copies all elements in row-major order. From is the stored type; stored elements may be misaligned.
template <class From, class To, class Convert>
void copy_elements(const TorchTensor& tensor, const std::byte* first, To* out, Convert convert) {
  const int rank = tensor.shape.rank();
  std::vector<std::int64_t> index(static_cast<std::size_t>(rank), 0);
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < tensor.shape.numel(); ++i) {
    From value;
    std::memcpy(&value, first + static_cast<std::size_t>(at) * sizeof(From), sizeof value);
    out[i] = convert(value);
    for (int axis = rank - 1; axis >= 0; --axis) {  // steps to the next element; at the end of an axis, returns to its start
      const auto a = static_cast<std::size_t>(axis);
      at += tensor.strides[a];
      if (++index[a] < tensor.shape[axis]) break;
      at -= tensor.strides[a] * index[a];
      index[a] = 0;
    }
  }
}

template <class T>
void copy_same(const TorchTensor& tensor, const std::byte* first, void* out) {
  copy_elements<T>(tensor, first, static_cast<T*>(out), [](T value) { return value; });
}

void copy_as_stored(const TorchTensor& tensor, const std::byte* first, void* out) {
  switch (tensor.element->bytes) {
    case 1: return copy_same<std::uint8_t>(tensor, first, out);
    case 2: return copy_same<std::uint16_t>(tensor, first, out);
    case 4: return copy_same<std::uint32_t>(tensor, first, out);
    default: return copy_same<std::uint64_t>(tensor, first, out);
  }
}

}  // namespace

std::vector<std::string_view> torch_globals() {
  std::vector<std::string_view> globals{rebuild_tensor_global, rebuild_parameter_global};
  for (const TorchElement& element : elements) globals.push_back(element.global);
  return globals;
}

const TorchElement& torch_element(DType dtype) {
  for (const TorchElement& element : elements)
    if (element.dtype == dtype && element.stored == Stored::Same) return element;
  throw DTypeError(concat_text("torch_element: expected an element type with a storage type, got ", dtype));
}

bool is_torch_tensor(const PickleValue& value) { return is_call_of(value, rebuild_tensor_global) || is_call_of(value, rebuild_parameter_global); }

TorchTensor describe_torch_tensor(const std::string& origin, const std::string& name, const PickleValue& value,
                                  const std::map<std::string, ZipRecord>& records, const std::string& prefix) {
  return Describer(origin, name, records, prefix).run(value);
}

Tensor read_torch_tensor(const TorchTensor& tensor, const std::shared_ptr<Storage>& file) {
  const TorchElement& element = *tensor.element;
  const auto* const first = static_cast<const std::byte*>(file->data()) + tensor.begin;
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(first) % element.bytes == 0;
  if (element.stored == Stored::Same && is_aligned && is_row_major(tensor)) return Tensor(file, tensor.begin, tensor.shape, element.dtype);
  Tensor copy = empty(tensor.shape, element.dtype);
  switch (element.stored) {
    case Stored::Same: copy_as_stored(tensor, first, copy.host_bytes().data()); break;
    case Stored::Float16: copy_elements<std::uint16_t>(tensor, first, copy.host_data<float>(), float_of_half); break;
    case Stored::Int16: copy_elements<std::int16_t>(tensor, first, copy.host_data<std::int32_t>(), [](std::int16_t value) -> std::int32_t { return value; }); break;
    case Stored::Int8: copy_elements<std::int8_t>(tensor, first, copy.host_data<std::int32_t>(), [](std::int8_t value) -> std::int32_t { return value; }); break;
  }
  return copy;
}

}  // namespace mblm
