// The stages of a model for inference: what the generator and the scorer share.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "mblm/model.h"
#include "mblm/recomputed_block.h"

namespace mblm {

// Runs stages on states. The functions belong in an InferenceScope. The model must outlive this object, and its parameters must not
// change.
class InferenceStages {
 public:
  // Throws ValueError for a masked language model.
  explicit InferenceStages(const Model& model);

  const Model& model() const { return model_; }
  const ModelConfig& config() const { return model_.config(); }
  int last() const { return config().stages() - 1; }  // the local stage
  Device device() const { return model_.parameters().values().device(); }

  // The state of `batch` sequences of a stage before their start token.
  State fresh(int stage, std::int64_t batch) const;
  // Runs the next T tokens of B sequences of a stage. ids (B, T * patch bytes); above (B, T, D): the output of the stage above for them,
  // undefined in stage 0. Returns (B, T, D), or (B, 1 + T, D) for a fresh state: the start token comes first.
  Tensor advance(int stage, const Tensor& ids, const Tensor& above, State& state) const;

  // The start token of a sequence is the same in every patch. The state of one sequence after it:
  State after_start(int stage) const { return starts_[static_cast<std::size_t>(stage)].state.copy(); }
  // the block's output (1, D):
  const Tensor& start_output(int stage) const { return starts_[static_cast<std::size_t>(stage)].output; }
  // and the input from stage `stage` - 1 >= 0 for the first patch of each of its sequences, (P, D):
  const Tensor& start_above(int stage) const { return starts_[static_cast<std::size_t>(stage - 1)].below; }

 private:
  struct Start {
    State state;
    Tensor output, below;
  };
  const StageBlock& block(int stage) const;
  Tensor embed(int stage, const Tensor& ids) const;

  const Model& model_;
  std::vector<std::unique_ptr<RecomputedBlock>> recomputed_;  // for blocks without a state, else null
  std::vector<Start> starts_;
};

}  // namespace mblm
