// Tensors: contiguous, row-major arrays on a device. A Tensor is a handle: copies share the elements.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "engine/device.h"
#include "engine/dtype.h"
#include "engine/error.h"
#include "engine/shape.h"

namespace mblm {

class MemoryPool;
struct PoolBlock;
struct Node;

// A block of memory that tensors view. It is released with the last of them.
class Storage {
 public:
  Storage(std::size_t bytes, Device device);  // from the current pool
  // CPU memory that `owner` owns; the storage keeps the owner alive.
  Storage(void* data, std::size_t bytes, std::shared_ptr<const void> owner);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
  friend class Tensor;
  std::shared_ptr<Storage> float32_copy_;
  std::shared_ptr<MemoryPool> pool_;
  PoolBlock* block_ = nullptr;  // of pool_
  std::shared_ptr<const void> owner_;
};

class Tensor {
 public:
  Tensor() = default;  // undefined: an argument that is not given
  Tensor(std::shared_ptr<Storage> storage, std::size_t byte_offset, Shape shape, DType dtype);

  bool defined() const { return storage_ != nullptr; }
  explicit operator bool() const { return defined(); }

  const Shape& shape() const { return shape_; }
  std::int64_t size(int axis) const { return shape_[axis]; }
  int rank() const { return shape_.rank(); }
  std::int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : Device{}; }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }

  // The elements of a tensor on the CPU. Throws DeviceError on another device, DTypeError unless T is the element type.
  // (Kernels use engine/kernel_data.h.)
  template <class T> T* host_data() {
    check_host();
    check_dtype(dtype_of<T>);
    return static_cast<T*>(address());
  }
  template <class T> const T* host_data() const {
    check_host();
    check_dtype(dtype_of<T>);
    return static_cast<const T*>(address());
  }
  // The same elements as bytes. Throws DeviceError on another device.
  std::span<const std::byte> host_bytes() const;
  std::span<std::byte> host_bytes();

  // Views: they share elements and propagate gradients. Throw ShapeError for a different number of elements and for rows out
  // of range.
  Tensor reshape(const Shape& shape) const;
  Tensor slice(std::int64_t begin, std::int64_t end) const;  // rows [begin, end) of the first axis

  // The same elements without a history.
  Tensor detach() const;
  // The same elements as a new leaf, whose gradient backward can return (engine/autograd.h). Throws DTypeError for integers.
  Tensor as_leaf() const;
  bool wants_grad() const { return node_ != nullptr; }
  // True when no other tensor shares the storage.
  bool storage_is_unshared() const { return storage_.use_count() == 1; }
  bool same_storage(const Tensor& other) const { return storage_ == other.storage_; }

  // The only element, converted to double; waits for the device. Throws ShapeError unless there is exactly one.
  double item() const;
  // All elements, on the host. Throws DTypeError unless T is the element type.
  template <class T> std::vector<T> to_vector() const {
    check_dtype(dtype_of<T>);
    std::vector<T> values(static_cast<std::size_t>(numel()));
    to_host(values.data());
    return values;
  }
  // All elements converted to T, on the host. Narrowing rounds to nearest even.
  template <class T> std::vector<T> to_vector_as() const {
    std::vector<T> values(static_cast<std::size_t>(numel()));
    visit_dtype(dtype_, [&]<class Stored>() {
      const std::vector<Stored> stored = to_vector<Stored>();
      for (std::size_t i = 0; i < stored.size(); ++i) values[i] = element_cast<T>(stored[i]);
    });
    return values;
  }
  void to_host(void* out) const;
  void from_host(const void* values);  // overwrites the elements

  // The same elements in float32, without history, for kernels that would widen them at each call. Undefined unless whoever writes the
  // bfloat16 storage keeps one with keep_float32_copy: a tensor that covers the storage, like this one, and is up to date.
  Tensor float32_copy() const;
  void keep_float32_copy(const Tensor& copy);

  const std::shared_ptr<Node>& node() const { return node_; }
  int output_index() const { return output_index_; }
  void set_history(std::shared_ptr<Node> node, int output_index);  // used by engine/autograd.cpp

 private:
  friend Tensor adjacent_rows(std::span<const Tensor> parts);
  friend void* raw(const Tensor& x);  // engine/kernel_data.h
  template <class T> friend T* data(Tensor& x);
  template <class T> friend const T* data(const Tensor& x);

  void* address() const { return storage_ == nullptr ? nullptr : static_cast<char*>(storage_->data()) + offset_; }
  void check_dtype(DType wanted) const;
  void check_host() const;

  std::shared_ptr<Storage> storage_;
  std::size_t offset_ = 0;
  Shape shape_;
  DType dtype_ = DType::Float32;
  std::shared_ptr<Node> node_;
  int output_index_ = 0;
};

// New tensors. `empty` does not initialize the elements.
Tensor empty(const Shape& shape, DType dtype, Device device = {});
Tensor zeros(const Shape& shape, DType dtype, Device device = {});
Tensor empty_like(const Tensor& x);
Tensor zeros_like(const Tensor& x);
template <class T> Tensor from_values(const Shape& shape, std::span<const T> values, Device device = {}) {
  require<ShapeError>(shape.numel() == static_cast<std::int64_t>(values.size()), "from_values: shape ", shape, " holds ", shape.numel(), " elements, got ",
                      values.size());
  Tensor x = empty(shape, dtype_of<T>, device);
  x.from_host(values.data());
  return x;
}
template <class T> Tensor from_values(const Shape& shape, const std::vector<T>& values, Device device = {}) {
  return from_values<T>(shape, std::span<const T>(values), device);
}

// One view of tensors that follow each other in one storage, with their rows along the first axis: slices of a tensor, put together
// again. Without history. Undefined when they do not follow each other or differ in dtype or in another size.
Tensor adjacent_rows(std::span<const Tensor> parts);

void fill_zero(Tensor& x);
void copy_into(Tensor& to, const Tensor& from);  // same shape, dtype and device
Tensor clone(const Tensor& x);                    // without history
Tensor to_device(const Tensor& x, Device device);  // without history; shares elements if x is on that device

}  // namespace mblm
