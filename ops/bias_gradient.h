#pragma once
#include "engine/autograd.h"
#include "ops/sequence.h"

namespace mblm {

// dbias = sum over the rows of dy (..., D): the gradient of a bias (D) that is added to every row, written to its GradSlot.
inline Tensor bias_gradient(const Tensor& bias, const Tensor& dy) {
  const std::int64_t width = dy.shape().last();
  const GradSlot slot = grad_slot(bias);
  Tensor sums = slot.tensor.reshape(Shape{1, width});
  sum_over_batch(dy.reshape(Shape{dy.shape().rows(), 1, width}), 0, sums, slot.beta);  // a batch of sequences of one token
  return slot.done();
}

}  // namespace mblm
