// Sums and copies of tensors over the workers of a training run: MPI and NCCL implement them.
#pragma once

#include "engine/tensor.h"

namespace mblm {

// One of `size` workers. All workers call sum and broadcast in the same order, with tensors of the same shape and dtype.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;  // 0 .. size - 1
  virtual int size() const = 0;

  // x[i] = ((x_0[i] + x_1[i]) + x_2[i]) + ..., x_r the tensor of worker r; float32. The order is that of the ranks, so that
  // the bits are the same on every worker and in each run. Throws DTypeError, and DeviceError for a device that it does not reach.
  virtual void sum(Tensor& x) = 0;
  // Overwrites x with the elements of worker 0; any dtype. Throws DeviceError as sum does.
  virtual void broadcast(Tensor& x) = 0;
};

}  // namespace mblm
