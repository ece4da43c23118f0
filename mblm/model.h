// A model: its configuration, its parameters and what can be asked of it.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mblm/config.h"
#include "mblm/hierarchy.h"

namespace mblm {

class Model {
 public:
  // Declares the parameters; they have no memory before allocate(). Throws ConfigError (check_model_config).
  explicit Model(const ModelConfig& config);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Memory for the parameters and their gradients. float64 is for tests. Throws MemoryError.
  void allocate(Device device = {}, DType dtype = DType::Float32);
  void initialize(std::uint64_t seed) { store_.initialize(seed); }

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return store_; }
  const ParameterStore& parameters() const { return store_; }
  const Hierarchy& hierarchy() const { return hierarchy_; }

  // input_ids int64, (B, L) or nested (B, P, P_1, ..., P_{N-1}), on the model's device or on the CPU.
  // Throws ValueError for ids outside [0, V) and for an input longer than a fixed context, ShapeError.
  // Flat: (B, L, V). Nested: (B, P, ..., 1 + P_{N-1}, V), with the start tokens. (B, 0): (B, 1, V), the first byte's.
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
  };
  // loss_mask (B, L), or shaped like a nested input, in the model's dtype; undefined for ones.
  Loss loss(const Tensor& input_ids, const Tensor& loss_mask = {}, const ForwardContext& context = {}) const;

 private:
  Tensor nested_ids(const Tensor& input_ids) const;  // checked, padded and reshaped
  void check_embeddings(std::span<const Tensor> embeddings) const;

  const ModelConfig config_;
  ParameterStore store_;
  Hierarchy hierarchy_;
  LinearParameters to_logits_;
};

// The file's metadata has the model's config as YAML under this key, so that one file is enough to use a model.
inline constexpr const char* config_metadata_key = "mblm_config";

// Writes values and config; `metadata` is added to the file's.
void save_model(const Model& model, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata = {});
// The config that a checkpoint carries. Throws FileError when it carries none, ConfigError.
ModelConfig read_checkpoint_config(const std::filesystem::path& path, const BlockRegistry& registry);
// Fills the parameters of an allocated model from a file's tensors. Throws FileError naming the tensor that is missing,
// unknown, or of another shape or element type; then nothing is changed.
void load_parameters(Model& model, const std::filesystem::path& path);
// A model as the file's own config describes it, allocated on `device`. Throws FileError.
std::unique_ptr<Model> load_model(const std::filesystem::path& path, const BlockRegistry& registry, Device device = {});

}  // namespace mblm
