#include "mblm/inference_stages.h"

#include <algorithm>
#include <utility>

#include "engine/inference.h"
#include "ops/concat_rows.h"

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

// The embedded tokens (B, T, D), computed in pieces: before the projection, a token is as large as the embeddings of all its bytes.
Tensor InferenceStages::embed(int stage, const Tensor& ids) const {
  constexpr std::int64_t piece_bytes = 4096;
  const std::int64_t patch = config().patch_bytes(stage), rows = ids.size(0), tokens = ids.size(1) / patch, piece = std::max<std::int64_t>(1, piece_bytes / patch);
  if (patch == 1 || rows * tokens <= piece) return model_.hierarchy().embed(stage, ids);
  const Tensor each = ids.reshape(Shape{rows * tokens, patch});
  std::vector<Tensor> pieces;
  for (std::int64_t begin = 0; begin < rows * tokens; begin += piece)
    pieces.push_back(model_.hierarchy().embed(stage, each.slice(begin, std::min(rows * tokens, begin + piece))));
  return concat_rows(pieces).reshape(Shape{rows, tokens, pieces.front().size(2)});
}

Tensor InferenceStages::advance(int stage, const Tensor& ids, const Tensor& above, State& state) const {
  return block(stage).forward(model_.hierarchy().next_input(stage, embed(stage, ids), above, state.lengths), &state, {});
}

}  // namespace mblm
