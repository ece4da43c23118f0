// The model: configuration, parameters, forward passes and losses.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "mblm/hierarchy.h"
#include "mblm/model_input.h"

namespace mblm {

class Model {
 public:
  // Declares the parameters without allocating them. Throws ConfigError (check_model_config).
  explicit Model(const ModelConfig& config);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Allocates the parameters and their gradients. `precision` is float32 or bfloat16: then parameters, their gradients, the residual
  // stream, logits and losses are float32, and the other activations and the factors of matrix products are bfloat16; all arithmetic
  // and all sums are float32. float64, for tests, applies to everything. Throws MemoryError.
  // Gradients::No is for inference: a model in half of the memory, which cannot be trained.
  void allocate(Device device = {}, DType precision = DType::Float32, Gradients gradients = Gradients::Yes);
  void initialize(std::uint64_t seed) { store_.initialize(seed); }

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return store_; }
  const ParameterStore& parameters() const { return store_; }
  const Hierarchy& hierarchy() const { return hierarchy_; }

  // input_ids: int64, (B, L) or nested (B, P, P_1, ..., P_{N-1}), on any device. prepare_input checks it on the CPU, then it is
  // moved to the model's device. Throws as prepare_input.
  // The ModelInput overloads take a prepared input on the model's device. They do no work on the host and read nothing back.
  // They ignore context.token_mask and use the masks of the input.
  // Returns (B, L, V) for a flat input, (B, P, ..., 1 + P_{N-1}, V), with the start tokens, for a nested one, and for (B, 0) the
  // logits of the first byte, (B, 1, V).
  // In a masked language model row t predicts byte t, there are no start tokens, (B, 0) gives (B, 0, V), and
  // context.token_mask, shaped like the input, selects the bytes to attend to.
  Tensor logits(const Tensor& input_ids, const ForwardContext& context = {}) const;
  Tensor logits(const ModelInput& input, const ForwardContext& context = {}) const;
  // (B, L, D) for a flat input, (B, P, ..., P_{N-1}, D) for a nested one, without the start tokens.
  Tensor hidden_states(const Tensor& input_ids, const ForwardContext& context = {}) const;
  Tensor hidden_states(const ModelInput& input, const ForwardContext& context = {}) const;

  // Token embeddings of an input, one tensor per stage from local to global, padded to whole tokens of stage 0, without
  // positional embeddings: (B, P, P_1, ..., P_{N-1}, D_{N-1}), ..., (B, P, P_1, D_1), (B, P, D_0). In the dtype of the parameters.
  std::vector<Tensor> embeddings(const Tensor& input_ids) const;
  // Hidden states (B, P, P_1, ..., P_{N-1}, D) computed from embeddings with these shapes, in the dtype of the parameters and on their device.
  // For embeddings(input_ids) the result equals hidden_states(input_ids). Throws ShapeError, DTypeError, and ValueError for an
  // input longer than a fixed context.
  Tensor hidden_states(std::span<const Tensor> embeddings, const ForwardContext& context = {}) const;

  struct Loss {
    Tensor loss;      // scalar: mean over the elements that are nonzero after masking; 0 if there are none
    Tensor elements;  // (B, L) loss per byte in nats, times the mask; zero where the target is padding
    Tensor count;     // scalar int64: number of nonzero elements
    Tensor logits;    // (B, L, V): row t predicts byte t; detached from the graph
  };
  // loss_mask: floating, shaped like the input; undefined means ones. Throws ValueError for a masked language model.
  Loss loss(const Tensor& input_ids, const Tensor& loss_mask = {}, const ForwardContext& context = {}) const;

  // Loss of a masked language model. labels: int64, shaped like the input, the correct id at each place (a padding id counts
  // like any other) or no_label. Elements without a label or outside context.token_mask are zero. Throws ValueError for a label
  // outside [0, V), and for a model that is not masked.
  Loss masked_loss(const Tensor& input_ids, const Tensor& labels, const Tensor& loss_mask = {}, const ForwardContext& context = {}) const;
  // Logits (R, V) of rows of the local stage's output (R, D), in the dtype of the parameters.
  Tensor to_logits(const Tensor& rows) const;

  // The logits that the losses are computed from, with their history: (B, L, V), where row t predicts input.targets[:, t].
  Tensor prediction_logits(const ModelInput& input, const ForwardContext& context = {}) const;
  // The id in ModelInput::targets that the losses ignore.
  std::int64_t ignored_target() const { return config_.is_masked() ? no_label : config_.pad_token_id; }

  // Loss of either kind of model. Throws ValueError for a masked language model without labels.
  Loss loss(const ModelInput& input, const ForwardContext& context = {}) const;

 private:
  // Prepares the input and moves it to the model's device.
  ModelInput prepared(const Tensor& input_ids, const Tensor& token_mask = {}, const Tensor& labels = {}, const Tensor& loss_mask = {}) const;
  // Rows of the local stage's output in input order, (B, L, D): the rows at the bytes, or the rows that predict them.
  enum class Rows { AtBytes, Predictors };
  Tensor local_rows(const Tensor& local, Rows rows, std::int64_t length) const;
  void check_embeddings(std::span<const Tensor> embeddings) const;

  const ModelConfig config_;
  ParameterStore store_;
  Hierarchy hierarchy_;
  LinearParameters to_logits_;
};

// A loss instead of Model::loss: a scalar in the dtype of the logits. `input` is prepared and on the model's device.
using LossFunction = std::function<Tensor(const Model& model, const ModelInput& input, const ForwardContext& context)>;

// Parses a precision, float32 or bfloat16. Without a name returns the device's default: bfloat16 on a GPU, float32 on the CPU.
// Throws ConfigError.
DType precision_named(const std::optional<std::string>& name, Device device);

}  // namespace mblm
