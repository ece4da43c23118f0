// A model: its configuration, its parameters and what can be asked of it.
#pragma once

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
  // Declares the parameters; they have no memory before allocate(). Throws ConfigError (check_model_config).
  explicit Model(const ModelConfig& config);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Memory for the parameters and their gradients. `precision` is that of the matrix products: float32; bfloat16, from a
  // bfloat16 copy of the float32 parameters, with everything else in float32; or float64, of all, for tests. Throws MemoryError.
  void allocate(Device device = {}, DType precision = DType::Float32);
  void initialize(std::uint64_t seed) { store_.initialize(seed); }

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return store_; }
  const ParameterStore& parameters() const { return store_; }
  const Hierarchy& hierarchy() const { return hierarchy_; }

  // input_ids int64, (B, L) or nested (B, P, P_1, ..., P_{N-1}), on any device: it is checked and prepared on the CPU
  // (prepare_input) and moved to the model's device. Throws what prepare_input does.
  // The overloads for a ModelInput take one that is prepared and on the model's device. They do no work on the host, read
  // nothing back, and take no context.token_mask, whose place the input's masks have.
  // Flat: (B, L, V). Nested: (B, P, ..., 1 + P_{N-1}, V), with the start tokens. (B, 0): (B, 1, V), the first byte's.
  // A masked language model: row t speaks of byte t itself, there are no start tokens, (B, 0) gives (B, 0, V), and
  // context.token_mask, shaped like the input, says which bytes are attended to.
  Tensor logits(const Tensor& input_ids, const ForwardContext& context = {}) const;
  Tensor logits(const ModelInput& input, const ForwardContext& context = {}) const;
  // Flat: (B, L, D). Nested: (B, P, ..., P_{N-1}, D), without the start tokens.
  Tensor hidden_states(const Tensor& input_ids, const ForwardContext& context = {}) const;
  Tensor hidden_states(const ModelInput& input, const ForwardContext& context = {}) const;

  // The embeddings of an input, one tensor per stage from local to global, padded to whole tokens of stage 0 and without
  // positions: (B, P, P_1, ..., P_{N-1}, D_{N-1}), ..., (B, P, P_1, D_1), (B, P, D_0).
  std::vector<Tensor> embeddings(const Tensor& input_ids) const;
  // The hidden states of such embeddings, in the model's dtype and on its device; those of an input give what the input gives.
  // (B, P, P_1, ..., P_{N-1}, D). Throws ShapeError, DTypeError, ValueError for more than a fixed context.
  Tensor hidden_states(std::span<const Tensor> embeddings, const ForwardContext& context = {}) const;

  struct Loss {
    Tensor loss;      // scalar: mean over the elements that are not zero after masking; 0 when there are none
    Tensor elements;  // (B, L) loss per byte in nats, times the mask; zero where the target is padding
    Tensor count;     // scalar int64: elements that are not zero
    Tensor logits;    // (B, L, V) that byte t was predicted from in row t, without history
  };
  // loss_mask floating, shaped like the input; undefined for ones. Throws ValueError for a masked language model.
  Loss loss(const Tensor& input_ids, const Tensor& loss_mask = {}, const ForwardContext& context = {}) const;

  // Of a masked language model. labels int64, shaped like the input: the id that belongs there (padding counts like any
  // other), or no_label. The elements are zero where there is no label, and outside context.token_mask. Throws ValueError for
  // a label outside [0, V), and for a model that is not masked.
  Loss masked_loss(const Tensor& input_ids, const Tensor& labels, const Tensor& loss_mask = {}, const ForwardContext& context = {}) const;
  // Of a model of either kind. Throws ValueError for a masked one without labels.
  Loss loss(const ModelInput& input, const ForwardContext& context = {}) const;

 private:
  // The input on the model's device.
  ModelInput prepared(const Tensor& input_ids, const Tensor& token_mask = {}, const Tensor& labels = {}, const Tensor& loss_mask = {}) const;
  // Output of the local stage in the order of the input, (B, L, D): at the bytes, or at what each byte is predicted from.
  enum class Rows { AtBytes, Predictors };
  Tensor local_rows(const Tensor& local, Rows rows, std::int64_t length) const;
  void check_embeddings(std::span<const Tensor> embeddings) const;

  const ModelConfig config_;
  ParameterStore store_;
  Hierarchy hierarchy_;
  LinearParameters to_logits_;
};

// The precision of that name, float32 or bfloat16; without a name that of the device, bfloat16 on a GPU. Throws ConfigError.
DType precision_named(const std::optional<std::string>& name, Device device);

}  // namespace mblm
