#include "ops/cross_entropy.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, std::int64_t, const Tensor&, Tensor&, Tensor&, Tensor&, Tensor&)> cross_entropy_forward{
    "cross_entropy_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor&)> cross_entropy_backward{
    "cross_entropy_backward"};

CrossEntropy cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignored_id, const Tensor& weights) {
  require<DTypeError>(logits.defined() && logits.dtype() == wide_dtype(logits), "cross_entropy: expected logits of float32 or float64, got ",
                      logits.dtype());
  require_dtype("cross_entropy", "targets", targets, DType::Int64);
  require<ShapeError>(logits.rank() >= 1, "cross_entropy: expected logits of rank >= 1, got shape ", logits.shape());
  require_shape("cross_entropy", "targets", targets, Shape(std::span(logits.shape().begin(), logits.shape().end() - 1)));
  if (weights.defined()) {
    require_shape("cross_entropy", "weights", weights, targets.shape());
    require_dtype("cross_entropy", "weights", weights, logits.dtype());
    refuse_gradient("cross_entropy: weights", {weights});
  }
  const Device device = logits.device();
  Tensor elements = empty(targets.shape(), logits.dtype(), device), log_sum_exp = empty(Shape{targets.numel()}, DType::Float64, device);
  Tensor loss = empty(Shape{}, logits.dtype(), device), count = empty(Shape{}, DType::Int64, device);
  cross_entropy_forward(logits, targets, ignored_id, weights, elements, log_sum_exp, loss, count);
  const Tensor recorded = record("cross_entropy", {logits}, loss,
                                 [logits = logits.detach(), targets, weights, log_sum_exp, count](const Tensor& dloss) -> std::vector<Tensor> {
                                   Tensor dlogits = empty_like(logits);
                                   cross_entropy_backward(logits, targets, weights, log_sum_exp, count, dloss, dlogits);
                                   return {dlogits};
                                 });
  return {recorded, elements, count};
}

}  // namespace mblm
