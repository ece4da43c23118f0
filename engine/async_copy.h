// Asynchronous copies from a device to the host, so that the host does not wait for the device.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "engine/tensor.h"

namespace mblm {

// Copies a tensor to pinned host memory. The copy runs after the work that was submitted to the device before start().
class AsyncCopy {
 public:
  // Throws MemoryError when pinned memory cannot be allocated.
  AsyncCopy(Device device, std::size_t bytes);
  ~AsyncCopy();
  AsyncCopy(const AsyncCopy&) = delete;
  AsyncCopy& operator=(const AsyncCopy&) = delete;

  // Starts to copy x, which must have the size and device given to the constructor. Replaces the previous copy. Returns at once.
  void start(const Tensor& x);
  // The last copy as a T of the same size. Waits for the copy, not for later work of the device.
  template <class T>
  T value() const {
    static_assert(std::is_trivially_copyable_v<T>);
    T result;
    std::memcpy(static_cast<void*>(&result), wait(sizeof(T)), sizeof(T));
    return result;
  }

 private:
  const void* wait(std::size_t bytes) const;

  const Device device_;
  const std::size_t bytes_;
  void* pinned_;
  Event event_ = 0;
  bool started_ = false;
};

}  // namespace mblm
