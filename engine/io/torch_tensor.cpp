#include "engine/io/torch_tensor.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "engine/error.h"
#include "engine/io/float16.h"

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

constexpr std::string_view older_rebuild_global = "torch._utils _rebuild_tensor";
// Functions whose first argument is the tensor: parameters, parameters with attributes, tensors of other devices.
constexpr std::string_view wrapper_globals[] = {"torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state",
                                                "torch._utils _rebuild_device_tensor_from_cpu_tensor"};
// A tensor with attributes: (function, class, the function's arguments, attributes).
constexpr std::string_view with_attributes_global = "torch._tensor _rebuild_from_type_v2";
constexpr int deepest_wrapper = 8;

bool is_one_of(std::string_view text, std::span<const std::string_view> names) { return std::find(names.begin(), names.end(), text) != names.end(); }

// A call of a global with a tuple of arguments, whose attributes and wrappers are removed; nothing for other values.
struct TensorCall {
  std::string_view function;
  const std::vector<const PickleValue*>* arguments = nullptr;
};
std::optional<TensorCall> innermost_call(const PickleValue& value) {
  const auto call_of = [](const PickleValue& v) -> std::optional<TensorCall> {
    if (v.kind != Kind::Call) return {};
    return TensorCall{v.items[0]->text, &v.items[1]->items};
  };
  std::optional<TensorCall> call = call_of(value);
  for (int depth = 0; call && depth < deepest_wrapper; ++depth) {
    const auto& arguments = *call->arguments;
    if (call->function == with_attributes_global) {
      const bool is_complete = arguments.size() >= 3 && arguments[0]->kind == Kind::Global && arguments[2]->kind == Kind::Tuple;
      if (!is_complete) return {};
      call = TensorCall{arguments[0]->text, &arguments[2]->items};
    } else if (is_one_of(call->function, wrapper_globals)) {
      if (arguments.empty()) return {};
      call = call_of(*arguments[0]);
    } else {
      return call;
    }
  }
  return {};
}

bool rebuilds_tensor(const std::optional<TensorCall>& call) {
  return call && (call->function == rebuild_tensor_global || call->function == older_rebuild_global);
}

// The other globals that torch.load(weights_only=True) accepts, and that appear in files next to tensors (torch/_weights_only_unpickler.py).
// Values that use them are skipped.
constexpr std::string_view skipped_globals[] = {
    "torch Size", "torch Tensor", "torch device", "torch.nn.parameter Parameter", "torch.nn.parameter Buffer", "torch.serialization _get_layout",
    "torch.storage TypedStorage", "torch.storage UntypedStorage", "torch._utils _rebuild_qtensor", "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_sparse_csr_tensor", "torch._utils _rebuild_nested_tensor",
    "torch._utils _rebuild_meta_tensor_no_storage", "torch._utils _rebuild_wrapper_subclass", "torch._utils _rebuild_device_tensor_from_numpy",
    "_codecs encode", "__builtin__ bytearray", "__builtin__ bytes", "__builtin__ complex", "__builtin__ set", "__builtin__ frozenset",
    "builtins bytearray", "builtins bytes", "builtins complex", "builtins set", "builtins frozenset", "torch per_tensor_affine",
    "torch per_tensor_symmetric", "torch per_channel_affine", "torch per_channel_symmetric", "torch per_channel_affine_float_qparams"};
constexpr std::string_view skipped_storages[] = {"ComplexDouble", "ComplexFloat", "QUInt8", "QInt8", "QInt32", "QUInt4x2", "QUInt2x4"};
constexpr std::string_view tensor_classes[] = {"Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"};
constexpr std::string_view dtypes[] = {
    "float32", "float64", "float16", "bfloat16", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "bool", "complex32",
    "complex64", "complex128", "quint8", "qint8", "qint32", "quint4x2", "quint2x4", "bits1x8", "bits2x4", "bits4x2", "bits8", "bits16",
    "float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "uint1", "uint2", "uint3", "uint4",
    "uint5", "uint6", "uint7", "int1", "int2", "int3", "int4", "int5", "int6", "int7"};

std::vector<std::string> make_globals() {
  std::vector<std::string> globals{std::string(rebuild_tensor_global), std::string(older_rebuild_global), std::string(with_attributes_global)};
  globals.insert(globals.end(), std::begin(wrapper_globals), std::end(wrapper_globals));
  globals.insert(globals.end(), std::begin(skipped_globals), std::end(skipped_globals));
  for (const TorchElement& element : elements) globals.emplace_back(element.global);
  for (const std::string_view storage : skipped_storages) globals.push_back(concat_text("torch ", storage, "Storage"));
  for (const std::string_view dtype : dtypes) globals.push_back(concat_text("torch ", dtype));
  for (const std::string_view module : {"torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse"})
    for (const std::string_view name : tensor_classes) globals.push_back(concat_text(module, " ", name, "Tensor"));
  for (const std::string_view name : tensor_classes) globals.push_back(concat_text("torch.cuda ", name, "Storage"));
  return globals;
}

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
    const std::optional<TensorCall> call = innermost_call(value);
    check(rebuilds_tensor(call), "a tensor", call ? shown_text(call->function) : "something else");
    return rebuild(*call->arguments);
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
  static const std::vector<std::string> all = make_globals();
  return {all.begin(), all.end()};
}

const TorchElement& torch_element(DType dtype) {
  for (const TorchElement& element : elements)
    if (element.dtype == dtype && element.stored == Stored::Same) return element;
  throw DTypeError(concat_text("torch_element: expected an element type with a storage type, got ", dtype));
}

bool is_torch_tensor(const PickleValue& value) { return rebuilds_tensor(innermost_call(value)); }

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
    case Stored::Float16: copy_elements<std::uint16_t>(tensor, first, copy.host_data<float>(), float_of_float16); break;
    case Stored::Int16: copy_elements<std::int16_t>(tensor, first, copy.host_data<std::int32_t>(), [](std::int16_t value) -> std::int32_t { return value; }); break;
    case Stored::Int8: copy_elements<std::int8_t>(tensor, first, copy.host_data<std::int32_t>(), [](std::int8_t value) -> std::int32_t { return value; }); break;
  }
  return copy;
}

}  // namespace mblm
