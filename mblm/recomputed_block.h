// A state for blocks that have none: the inputs of all tokens so far.
#pragma once

#include "mblm/stage_block.h"

namespace mblm {

// Computes what `block` computes. With a state, it runs the block over all inputs of a sequence and returns the outputs of the new
// tokens, so the cost of a token grows with its position.
class RecomputedBlock final : public StageBlock {
 public:
  // The residual stream is `width` wide, of the given dtype and device. `block` must outlive this object.
  RecomputedBlock(const StageBlock& block, std::int64_t width, DType dtype, Device device)
      : block_(block), width_(width), dtype_(dtype), device_(device) {}

  Tensor forward(const Tensor& x, State* state, const ForwardContext& context) const override;
  std::unique_ptr<State> start(std::int64_t batch) const override;

 private:
  const StageBlock& block_;
  const std::int64_t width_;
  const DType dtype_;
  const Device device_;
};

}  // namespace mblm
