#pragma once
#include "engine/autograd.h"

namespace mblm {

// loss_i = weight_i * (log sum_v exp(logits[i, v]) - logits[i, target_i]), zero where target_i is ignored_id; the result is
// the mean over the elements that are not zero, 0 with zero gradients when there are none.
// logits (..., V) float32 or float64; targets (...) int64; weights (...) of the logits' dtype or undefined for ones. Result: a scalar.
// The sum of the elements is float64. Targets outside [0, V) other than ignored_id are counted as ignored. Keeps logits,
// targets, weights and one log-sum-exp per row. Throws ShapeError, DTypeError; GradientError when weights want a gradient.
struct CrossEntropy {
  Tensor loss;      // scalar, of the logits' dtype
  Tensor elements;  // (...) loss_i, without history
  Tensor count;     // scalar int64: elements that are not zero
};
CrossEntropy cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignored_id, const Tensor& weights = {});

// log_sum_exp (rows) float64: logits far from zero leave few digits for it in float32. It is +infinity on the rows that do
// not count: those whose target is ignored or whose weight is zero.
extern Kernel<void(const Tensor& logits, const Tensor& targets, std::int64_t ignored_id, const Tensor& weights, Tensor& elements, Tensor& log_sum_exp,
                   Tensor& loss, Tensor& count)>
    cross_entropy_forward;
// dlogits = dloss * weight_i / count * (softmax - onehot) on the rows that count, zero on the others; all on the device.
extern Kernel<void(const Tensor& logits, const Tensor& targets, const Tensor& weights, const Tensor& log_sum_exp, const Tensor& count,
                   const Tensor& dloss, Tensor& dlogits)>
    cross_entropy_backward;

}  // namespace mblm
