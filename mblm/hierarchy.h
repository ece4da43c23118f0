// The hierarchy of stages: token embeddings from local to global, stages from global to local (spec: "Embedding", "Stages"). The
// batch of a stage consists of the patches of the stage above. For each patch a stage also receives the output of the stage above
// for the tokens before it. A masked language model has no start tokens, and this output is the one for the patch itself.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mblm/config/config.h"
#include "mblm/stage_block.h"

namespace mblm {

// Token embedding of a stage. The local stage looks its bytes up in a table. A stage above it looks up the bytes of a patch,
// concatenates, normalizes, projects and normalizes them.
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

  // Takes ids (B, P, P_1, ..., P_{N-1}), any P. Returns the output of the local stage, (B, P * P_1 * ... * P_{N-2}, 1 + P_{N-1},
  // D_{N-1}), with the output of the start token first in each local patch; with one stage (B, 1, 1 + P, D). Masked models have no
  // start token. token_masks: empty, or one (sequences, tokens) per stage as in ModelInput; they replace context.token_mask.
  Tensor forward(const Tensor& ids, std::span<const Tensor> token_masks, const ForwardContext& context) const;

  // The token embeddings that `forward` computes, one tensor per stage from local to global, without positional embeddings:
  // (B, P, P_1, ..., P_{N-1}, D_{N-1}), ..., (B, P, P_1, D_1), (B, P, D_0).
  std::vector<Tensor> embeddings(const Tensor& ids) const;
  // `forward` from embeddings with these shapes, which are not checked.
  Tensor forward_embeddings(std::span<const Tensor> embeddings, std::span<const Tensor> token_masks, const ForwardContext& context) const;

  const StageBlock& block(int stage) const { return *stages_[static_cast<std::size_t>(stage)].block; }

  // The parts of `forward`, for inference: the generator advances each stage when the bytes of its next token are known.
  // The embeddings of whole tokens of a stage: ids (B, T * patch bytes) -> (B, T, D), without positional embeddings.
  Tensor embed(int stage, const Tensor& ids) const;
  // The input of the stage's block for the next T tokens of B sequences. x (B, T, D): their embeddings; above (B, T, D): the output of
  // the stage above for them, undefined in stage 0. lengths: tokens of each sequence that the block has processed, with the start
  // token; either all are 0 or none. Returns (B, T, D), or (B, 1 + T, D) for sequences that begin here: the start token comes first.
  Tensor next_input(int stage, const Tensor& x, const Tensor& above, std::span<const std::int64_t> lengths) const;
  // Outputs of a stage (R, D) -> the input `above` of the stage below for the patches that follow (R, P_{n+1}, D_{n+1}).
  Tensor to_next(int stage, const Tensor& outputs) const;

 private:
  struct Stage {
    TokenEmbedding embedding;
    Parameter* positions = nullptr;         // (P, D), for fixed positional embeddings
    const Constant* frequencies = nullptr;  // (D / 2), for rope
    Parameter* start = nullptr;             // (D); null for masked models
    std::unique_ptr<StageBlock> block;
    LinearParameters to_next;  // D -> P_{n+1} D_{n+1}; not used by the local stage
  };

  void declare_embedding(const Scope& scope, int stage);
  // Returns the embeddings (rows, used, D) of the first `used` of `tokens` tokens in each of `rows` sequences of a stage.
  using StageTokens = std::function<Tensor(int stage, std::int64_t rows, std::int64_t tokens, std::int64_t used)>;
  Tensor run_stages(std::int64_t batch, std::int64_t length, const StageTokens& embedded, std::span<const Tensor> token_masks,
                    const ForwardContext& context) const;
  Tensor run_stage(int stage, const Tensor& tokens, const ForwardContext& context) const;

  Tensor start_of(const Stage& stage) const { return stage.start == nullptr ? Tensor{} : stage.start->tensor(); }
  Tensor positions_of(const Stage& stage) const { return stage.positions == nullptr ? Tensor{} : stage.positions->tensor(); }
  // Rotary embedding of the tokens x (B, T, D) of a stage, if it has one. positions (B): index of the first token; undefined for 0.
  Tensor rotated(int stage, Tensor x, const Tensor& positions) const;

  const ModelConfig config_;
  const std::int64_t start_tokens_;  // number of start tokens before each sequence of a stage: 1, or 0 for masked models
  std::vector<Stage> stages_;
};

// The stage of the parameter with this checkpoint name. to_logits belongs to the local stage. Returns -1 for unknown names.
int stage_of_parameter(const std::string& name, int stages);

}  // namespace mblm
