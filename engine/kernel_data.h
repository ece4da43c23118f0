// Addresses of a tensor's elements, for kernels. Host code uses Tensor::host_data, which rejects tensors on other devices.
#pragma once

#include "engine/tensor.h"

namespace mblm {

// Address of the first element on the tensor's device; null for an undefined tensor.
inline void* raw(const Tensor& x) { return x.address(); }

// The same, typed. Throws DTypeError unless T is the tensor's element type.
template <class T>
T* data(Tensor& x) {
  x.check_dtype(dtype_of<T>);
  return static_cast<T*>(x.address());
}
template <class T>
const T* data(const Tensor& x) {
  x.check_dtype(dtype_of<T>);
  return static_cast<const T*>(x.address());
}

}  // namespace mblm
