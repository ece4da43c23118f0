#include "mblm/inference_stages.h"

#include <utility>

#include "engine/inference.h"

namespace mblm {

InferenceStages::InferenceStages(const Model& model) : model_(model) {
  require<ValueError>(!config().is_masked(), "generate: expected a model that predicts the next byte, got a masked language model");
  const InferenceScope inference;
  const Tensor& values = model.parameters().values();
  for (int n = 0; n <= last(); ++n) {
    const bool has_state = model.hierarchy().block(n).start(1) != nullptr;
    recomputed_.push_back(has_state ? nullptr
                                    : std::make_unique<RecomputedBlock>(model.hierarchy().block(n), config().hidden_dims[static_cast<std::size_t>(n)],
                                                                        values.dtype(), values.device()));
    Start start{fresh(n, 1), {}, {}};
    const std::int64_t width = config().hidden_dims[static_cast<std::size_t>(n)];
    const Tensor no_ids = empty(Shape{1, 0}, DType::Int64, device());
    Tensor no_above = n == 0 ? Tensor{} : empty(Shape{1, 0, width}, model.parameters().activation_dtype(), device());
    start.output = advance(n, no_ids, no_above, start.state).reshape(Shape{1, width});
    if (n < last()) {
      const Tensor below = model.hierarchy().to_next(n, start.output);
      start.below = below.reshape(below.shape().without_first());
    }
    starts_.push_back(std::move(start));
  }
}

const StageBlock& InferenceStages::block(int stage) const {
  const auto at = static_cast<std::size_t>(stage);
  return recomputed_[at] != nullptr ? *recomputed_[at] : model_.hierarchy().block(stage);
}

State InferenceStages::fresh(int stage, std::int64_t batch) const { return std::move(*block(stage).start(batch)); }

Tensor InferenceStages::advance(int stage, const Tensor& ids, const Tensor& above, State& state) const {
  const Hierarchy& hierarchy = model_.hierarchy();
  return block(stage).forward(hierarchy.next_input(stage, hierarchy.embed(stage, ids), above, state.lengths), &state, {});
}

}  // namespace mblm
