// Sums and broadcasts of tensors over the workers of a training run. MPI and NCCL implement them.
#pragma once

#include "engine/tensor.h"

namespace mblm {

// One of `size` workers. All workers must call sum and broadcast in the same order, with tensors of the same shape and dtype.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;  // 0 .. size - 1
  virtual int size() const = 0;

  // x[i] = ((x_0[i] + x_1[i]) + x_2[i]) + ..., where x_r is the float32 tensor of worker r. All workers get the same bits. The fixed
  // order gives them in every run; NCCL chooses its own order, which is the same in every run on the same GPUs but may differ from
  // this one. Throws DTypeError for other dtypes and DeviceError for an unsupported device.
  virtual void sum(Tensor& x) = 0;
  // Overwrites x with the tensor of worker 0; any dtype. Throws DeviceError for an unsupported device.
  virtual void broadcast(Tensor& x) = 0;
};

}  // namespace mblm
