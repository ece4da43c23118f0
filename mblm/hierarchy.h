// The hierarchy of stages: token embeddings from local to global, stages from global to local (spec: "Embedding",
// "Stages"). Each stage sees the patches of the stage above as its batch, and what that stage knew before each patch.
// A masked language model has no start tokens: a stage sees all of each patch, and hands on what it made of the patch itself.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mblm/config/config.h"
#include "mblm/stage_block.h"

namespace mblm {

// Lookup of one stage's tokens: for the local stage a table; above it the bytes of a patch are looked up, concatenated,
// normalised and projected.
struct TokenEmbedding {
  Parameter* table = nullptr;                                      // (V, D_local)
  Parameter *norm_in_weight = nullptr, *norm_in_bias = nullptr;    // (patch * D_local)
  LinearParameters projection;                                     // patch * D_local -> D
  Parameter *norm_out_weight = nullptr, *norm_out_bias = nullptr;  // (D)
};

class Hierarchy {
 public:
  // Declares all parameters under the names that checkpoints use.
  Hierarchy(const ModelConfig& config, ParameterStore& store);

  // Input ids (B, P, P_1, ..., P_{N-1}), any P. Output of the local stage (B, P * P_1 * ... * P_{N-2}, 1 + P_{N-1}, D_{N-1}):
  // per local patch the start token's output first. With one stage: (B, 1, 1 + P, D). Masked: the same without the start
  // token. token_masks: one per stage, (sequences, tokens) as ModelInput has them, or none; they take the place of context.token_mask.
  Tensor forward(const Tensor& ids, std::span<const Tensor> token_masks, const ForwardContext& context) const;

  // What `forward` looks up, one tensor per stage from local to global, without positions: (B, P, P_1, ..., P_{N-1}, D_{N-1}),
  // ..., (B, P, P_1, D_1), (B, P, D_0).
  std::vector<Tensor> embeddings(const Tensor& ids) const;
  // `forward` from such embeddings, whose shapes must be these.
  Tensor forward_embeddings(std::span<const Tensor> embeddings, std::span<const Tensor> token_masks, const ForwardContext& context) const;

  const StageBlock& block(int stage) const { return *stages_[static_cast<std::size_t>(stage)].block; }

 private:
  struct Stage {
    TokenEmbedding embedding;
    Parameter* positions = nullptr;           // (P, D), fixed
    const Constant* frequencies = nullptr;    // (D / 2), rope
    Parameter* start = nullptr;      // (D); none where masked
    std::unique_ptr<StageBlock> block;
    LinearParameters to_next;  // D -> P_{n+1} D_{n+1}; none for the local stage
  };

  void declare_embedding(const Scope& scope, int stage);
  Tensor embed(int stage, const Tensor& ids) const;
  // The embeddings of the first `used` of `tokens` tokens in each of `rows` sequences of a stage: (rows, used, D).
  using StageTokens = std::function<Tensor(int stage, std::int64_t rows, std::int64_t tokens, std::int64_t used)>;
  Tensor run_stages(std::int64_t batch, std::int64_t length, const StageTokens& embedded, std::span<const Tensor> token_masks,
                    const ForwardContext& context) const;
  Tensor run_stage(int stage, const Tensor& tokens, const ForwardContext& context) const;

  Tensor start_of(const Stage& stage) const { return stage.start == nullptr ? Tensor{} : stage.start->tensor(); }

  const ModelConfig config_;
  const std::int64_t start_tokens_;  // in front of each sequence of a stage: 1, or 0 where masked
  std::vector<Stage> stages_;
};

// The stage whose parameter has this name in files; the logits' are the local stage's. -1 for another name.
int stage_of_parameter(const std::string& name, int stages);

}  // namespace mblm
