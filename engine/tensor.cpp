#include "engine/tensor.h"

#include <utility>

#include "engine/autograd.h"
#include "engine/kernel_data.h"
#include "engine/pool.h"

namespace mblm {
namespace {

void require_defined(const char* operation, const Tensor& x) {
  require<ShapeError>(x.defined(), operation, ": expected a tensor, got an undefined one");
}

}  // namespace

Storage::Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device), pool_(current_pool(device)), block_(pool_->allocate(bytes)) {
  data_ = block_->data;
}

Storage::Storage(void* data, std::size_t bytes, std::shared_ptr<const void> owner) : data_(data), bytes_(bytes), owner_(std::move(owner)) {}

Storage::~Storage() {
  if (pool_ != nullptr) pool_->release(block_);
}

Tensor::Tensor(std::shared_ptr<Storage> storage, std::size_t byte_offset, Shape shape, DType dtype)
    : storage_(std::move(storage)), offset_(byte_offset), shape_(shape), dtype_(dtype) {
  const bool fits = offset_ <= storage_->bytes() && static_cast<std::size_t>(shape_.numel()) <= (storage_->bytes() - offset_) / size_of(dtype_);
  require<ShapeError>(fits, "tensor: ", shape_, " of ", dtype_, " does not fit in its storage");
}

Tensor Tensor::reshape(const Shape& shape) const {
  require<ShapeError>(shape.numel() == numel(), "reshape: ", shape_, " has ", numel(), " elements, ", shape, " has ", shape.numel());
  Tensor view = detach();
  view.shape_ = shape;
  if (!wants_grad()) return view;
  return record("reshape", {*this}, view, [from = shape_](const Tensor& dy) -> std::vector<Tensor> { return {dy.reshape(from)}; });
}

Tensor Tensor::slice(std::int64_t begin, std::int64_t end) const {
  require<ShapeError>(rank() >= 1 && 0 <= begin && begin <= end && end <= size(0), "slice: no rows ", begin, " to ", end, " in ", shape_);
  Tensor view = detach();
  const std::size_t row_bytes = size(0) == 0 ? 0 : bytes() / static_cast<std::size_t>(size(0));
  view.offset_ += static_cast<std::size_t>(begin) * row_bytes;
  view.shape_ = shape_.with(0, end - begin);
  if (!wants_grad()) return view;
  return record("slice", {*this}, view, [from = shape_, begin, end](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = zeros(from, dy.dtype(), dy.device());
    Tensor rows = dx.slice(begin, end);
    copy_into(rows, dy);
    return {dx};
  });
}

Tensor Tensor::detach() const {
  Tensor copy = *this;
  copy.node_ = nullptr;
  copy.output_index_ = 0;
  return copy;
}

Tensor Tensor::float32_copy() const {
  if (storage_ == nullptr || storage_->float32_copy_ == nullptr) return {};
  return Tensor(storage_->float32_copy_, offset_ / sizeof(bfloat16) * sizeof(float), shape_, DType::Float32);
}

void Tensor::keep_float32_copy(const Tensor& copy) {
  const bool fits = dtype_ == DType::BFloat16 && copy.dtype_ == DType::Float32 && offset_ == 0 && copy.offset_ == 0 && bytes() == storage_->bytes() &&
                    copy.numel() == numel();
  require<DTypeError>(fits, "tensor: expected a float32 copy of all bfloat16 elements");
  storage_->float32_copy_ = copy.storage_;
}

Tensor Tensor::as_leaf() const {
  require<DTypeError>(is_floating(dtype_), "as_leaf: gradients need a floating element type, got ", dtype_);
  Tensor leaf = detach();
  leaf.set_history(make_leaf(), 0);
  return leaf;
}

void Tensor::set_history(std::shared_ptr<Node> node, int output_index) {
  node_ = std::move(node);
  output_index_ = output_index;
}

double Tensor::item() const {
  require<ShapeError>(defined() && numel() == 1, "item: expected one element, got shape ", shape_);
  return to_vector_as<double>().front();
}

std::span<const std::byte> Tensor::host_bytes() const {
  check_host();
  return {static_cast<const std::byte*>(address()), bytes()};
}

void Tensor::to_host(void* out) const {
  require_defined("to_host", *this);
  if (numel() > 0) runtime_of(device().kind).to_host(device().index, out, address(), bytes());
}

void Tensor::from_host(const void* values) {
  require_defined("from_host", *this);
  if (numel() > 0) runtime_of(device().kind).from_host(device().index, address(), values, bytes());
}

std::span<std::byte> Tensor::host_bytes() {
  check_host();
  return {static_cast<std::byte*>(address()), bytes()};
}

void Tensor::check_host() const {
  require<DeviceError>(device().kind == DeviceKind::Cpu, "tensor: expected elements on the CPU, got elements on ", device());
}

void Tensor::check_dtype(DType wanted) const {
  require<DTypeError>(dtype_ == wanted, "tensor: expected ", wanted, " elements, got ", dtype_);
}

Tensor empty(const Shape& shape, DType dtype, Device device) {
  std::size_t bytes = 0;
  require<MemoryError>(!__builtin_mul_overflow(static_cast<std::size_t>(shape.numel()), size_of(dtype), &bytes), "out of memory on ", device, ": ", shape,
                       " of ", dtype, " has more than 2^64 bytes");
  return Tensor(std::make_shared<Storage>(bytes, device), 0, shape, dtype);
}

Tensor zeros(const Shape& shape, DType dtype, Device device) {
  Tensor x = empty(shape, dtype, device);
  fill_zero(x);
  return x;
}

Tensor empty_like(const Tensor& x) { return empty(x.shape(), x.dtype(), x.device()); }
Tensor zeros_like(const Tensor& x) { return zeros(x.shape(), x.dtype(), x.device()); }

Tensor adjacent_rows(std::span<const Tensor> parts) {
  if (parts.empty()) return {};
  const Tensor& first = parts.front();
  std::size_t end = first.offset_;
  std::int64_t rows = 0;
  for (const Tensor& part : parts) {
    if (!part.same_storage(first) || part.offset_ != end || part.dtype_ != first.dtype_ || part.shape_ != first.shape_.with(0, part.size(0))) return {};
    end += part.bytes();
    rows += part.size(0);
  }
  return Tensor(first.storage_, first.offset_, first.shape_.with(0, rows), first.dtype_);
}

void fill_zero(Tensor& x) {
  require_defined("fill_zero", x);
  if (x.numel() > 0) runtime_of(x.device().kind).fill_zero(x.device().index, raw(x), x.bytes());
}

void copy_into(Tensor& to, const Tensor& from) {
  require_defined("copy_into", to);
  require_defined("copy_into", from);
  require<ShapeError>(to.shape() == from.shape(), "copy_into: shapes differ, ", to.shape(), " and ", from.shape());
  require<DTypeError>(to.dtype() == from.dtype(), "copy_into: element types differ, ", to.dtype(), " and ", from.dtype());
  require<DeviceError>(to.device() == from.device(), "copy_into: devices differ, ", to.device(), " and ", from.device());
  if (to.numel() > 0) runtime_of(to.device().kind).copy(to.device().index, raw(to), raw(from), to.bytes());
}

Tensor clone(const Tensor& x) {
  Tensor copy = empty_like(x);
  copy_into(copy, x);
  return copy;
}

Tensor to_device(const Tensor& x, Device device) {
  if (x.device() == device) return x.detach();
  Tensor copy = empty(x.shape(), x.dtype(), device);
  if (x.device().kind == DeviceKind::Cpu) {
    copy.from_host(raw(x));
  } else {
    std::vector<std::byte> host(x.bytes());
    x.to_host(host.data());
    copy.from_host(host.data());
  }
  return copy;
}

}  // namespace mblm
