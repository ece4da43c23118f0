// A model: its configuration, its parameters and what can be asked of it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "mblm/hierarchy.h"

namespace mblm {

// Stands in labels for: nothing to tell here.
inline constexpr std::int64_t no_label = -100;

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

  // input_ids int64, (B, L) or nested (B, P, P_1, ..., P_{N-1}), on the model's device or on the CPU.
  // Throws ValueError for ids outside [0, V) and for an input longer than a fixed context, ShapeError.
  // Flat: (B, L, V). Nested: (B, P, ..., 1 + P_{N-1}, V), with the start tokens. (B, 0): (B, 1, V), the first byte's.
  // A masked language model: row t speaks of byte t itself, there are no start tokens, (B, 0) gives (B, 0, V), and
  // context.token_mask, shaped like the input, says which bytes are attended to.
  Tensor logits(const Tensor& input_ids, const ForwardContext& context = {}) const;
  // Flat: (B, L, D). Nested: (B, P, ..., P_{N-1}, D), without the start tokens.
  Tensor hidden_states(const Tensor& input_ids, const ForwardContext& context = {}) const;

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
  // loss_mask (B, L), or shaped like a nested input, in the model's dtype; undefined for ones. Throws ValueError for a masked
  // language model.
  Loss loss(const Tensor& input_ids, const Tensor& loss_mask = {}, const ForwardContext& context = {}) const;

  // Of a masked language model. labels int64, shaped like the input: the id that belongs there (padding counts like any
  // other), or no_label. The elements are zero where there is no label, and outside context.token_mask. Throws ValueError for
  // a label outside [0, V), and for a model that is not masked.
  Loss masked_loss(const Tensor& input_ids, const Tensor& labels, const Tensor& loss_mask = {}, const ForwardContext& context = {}) const;

 private:
  Tensor nested_ids(const Tensor& input_ids) const;  // checked, padded and reshaped
  // The context that the stages get for `ids`, the nested form of the input: with a mask that leaves out the padding.
  ForwardContext stage_context(const Tensor& input_ids, const Tensor& ids, const ForwardContext& context) const;
  // Output of the local stage in the order of the input, (B, L, D): at the bytes, or at what each byte is predicted from.
  enum class Rows { AtBytes, Predictors };
  Tensor local_rows(const Tensor& local, Rows rows, std::int64_t length) const;
  // (B, L) in the model's device, or undefined.
  Tensor flat_loss_mask(const Tensor& input_ids, const Tensor& loss_mask) const;
  void check_embeddings(std::span<const Tensor> embeddings) const;

  const ModelConfig config_;
  ParameterStore store_;
  Hierarchy hierarchy_;
  LinearParameters to_logits_;
};

// The precision of that name, float32 or bfloat16; without a name that of the device, bfloat16 on a GPU. Throws ConfigError.
DType precision_named(const std::optional<std::string>& name, Device device);

}  // namespace mblm
