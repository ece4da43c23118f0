// Copies to the host that are read later, so that the host does not wait for the device.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "engine/tensor.h"

namespace mblm {

// One tensor's bytes in pinned memory. The copy is ordered behind the work that the device has been given before start().
class AsyncCopy {
 public:
  // Throws MemoryError when there is no pinned memory.
  AsyncCopy(Device device, std::size_t bytes);
  ~AsyncCopy();
  AsyncCopy(const AsyncCopy&) = delete;
  AsyncCopy& operator=(const AsyncCopy&) = delete;

  // Begins a copy of x, which has the size and device given before, in place of the last one. Returns at once.
  void start(const Tensor& x);
  // The bytes of the last copy as a T of that size. Waits for the copy only.
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
