// What a model is and what it costs, and what this machine offers: the text of `mblm info`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/parameters.h"
#include "mblm/config/config.h"

namespace mblm {

struct StageSummary {
  std::string block_type;
  std::int64_t tokens = 0, width = 0, layers = 0, parameters = 0;
  double flops = 0;         // of the block's forward pass for one input sequence; 0 when the block does not tell its cost
  double activations = 0;   // numbers that the backward pass of one input sequence needs
  std::int64_t chunks = 1;  // the block is recomputed chunk by chunk when there is more than one
};

struct ModelSummary {
  std::vector<StageSummary> stages;
  std::int64_t parameters = 0, length = 0;  // length: bytes of the input sequence
  double other_flops = 0, other_activations = 0;  // embeddings, projections and logits

  double forward_flops() const;   // per byte
  double training_flops() const;  // per byte: the backward pass is twice the forward pass, recomputed blocks once more
  // Bytes for `batch` sequences: float32 values, gradients and Adam's moments, and what the backward pass needs.
  double optimizer_bytes() const { return 16.0 * static_cast<double>(parameters); }
  double activation_bytes(std::int64_t batch) const;
};

// `parameters` need no memory (ParameterStore::allocate). `length` 0: the whole context. FLOPs are 2 per multiply-add.
ModelSummary summarize_model(const ModelConfig& config, const ParameterStore& parameters, std::int64_t length = 0);

// Per stage the block, tokens, width, layers and parameters; then the sums, of training with `batch` sequences.
std::string describe_model(const ModelConfig& config, const ParameterStore& parameters, std::int64_t batch = 1, std::int64_t length = 0);

// A line for each device of the loaded backends, and for each backend that could not be loaded.
std::string describe_devices();
// A line for each kernel slot: its name and, per device, the element types that its kernel takes.
std::string describe_kernels();

}  // namespace mblm
