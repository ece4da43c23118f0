#include "ops/argmax_matches.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> argmax_matches_forward{"argmax_matches_forward"};

Tensor argmax_matches(const Tensor& logits, const Tensor& targets) {
  require_floating("argmax_matches", logits);
  require_dtype("argmax_matches", "targets", targets, DType::Int64);
  require<ShapeError>(logits.rank() >= 1, "argmax_matches: expected logits of rank >= 1, got shape ", logits.shape());
  require_shape("argmax_matches", "targets", targets, Shape(std::span(logits.shape().begin(), logits.shape().end() - 1)));
  Tensor y = empty(targets.shape(), DType::UInt8, logits.device());
  argmax_matches_forward(logits, targets, y);
  return y;
}

}  // namespace mblm
