#pragma once
#include "engine/autograd.h"

namespace mblm {

// loss = sum_i loss_i / (number of nonzero loss_i), loss_i = weight_i (log sum_v exp(logits[i, v]) - logits[i, target_i]).
// loss_i is 0 on ignored rows: target_i is ignored_id or outside [0, V), or weight_i is 0. Without a nonzero loss_i the loss and its
// gradient are 0.
// logits (..., V) float32 or float64; targets (...) int64; weights (...) in the dtype of logits, undefined for ones. The mean is
// computed in float64. Keeps logits, targets, weights and one log-sum-exp per row.
// Throws ShapeError, DTypeError; GradientError when weights require a gradient.
struct CrossEntropy {
  Tensor loss;      // scalar, in the dtype of logits
  Tensor elements;  // (...) loss_i, in the dtype of logits; detached
  Tensor count;     // scalar int64: number of nonzero elements
};
CrossEntropy cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignored_id, const Tensor& weights = {});

// log_sum_exp (rows) float64, because float32 loses its digits for logits far from zero; +infinity on ignored rows.
extern Kernel<void(const Tensor& logits, const Tensor& targets, std::int64_t ignored_id, const Tensor& weights, Tensor& elements, Tensor& log_sum_exp,
                   Tensor& loss, Tensor& count)>
    cross_entropy_forward;
// dlogits = dloss * weight_i / count * (softmax - onehot), zero on ignored rows and for count 0. count and dloss are read on the
// device, so the host does not wait.
extern Kernel<void(const Tensor& logits, const Tensor& targets, const Tensor& weights, const Tensor& log_sum_exp, const Tensor& count,
                   const Tensor& dloss, Tensor& dlogits)>
    cross_entropy_backward;

}  // namespace mblm
