// The text of `mblm info`: size and cost of a model, devices and kernels of this machine.
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
  double flops = 0;         // forward pass of the block for one input sequence; 0 if the block does not report its cost
  double activations = 0;   // number of values stored for the backward pass of one input sequence
  std::int64_t chunks = 1;  // with more than one chunk the backward pass recomputes the block chunk by chunk
};

struct ModelSummary {
  std::vector<StageSummary> stages;
  std::int64_t parameters = 0, length = 0;  // length: bytes of the input sequence
  double other_flops = 0, other_activations = 0;  // embeddings, projections and logits

  double forward_flops() const;   // per byte
  double training_flops() const;  // per byte: the backward pass takes twice the forward pass, recomputed blocks one more
  double optimizer_bytes() const { return 16.0 * static_cast<double>(parameters); }  // float32 values, gradients, two moments of Adam
  double activation_bytes(std::int64_t batch) const;                                 // float32, for the backward pass of `batch` sequences
};

// `parameters` need not be allocated (ParameterStore::allocate). `length` 0 means the whole context. A multiply-add counts as 2 FLOPs.
ModelSummary summarize_model(const ModelConfig& config, const ParameterStore& parameters, std::int64_t length = 0);

// One line per stage with block, tokens, width, layers and parameters; then the totals, and the memory for training with `batch`
// sequences.
std::string describe_model(const ModelConfig& config, const ParameterStore& parameters, std::int64_t batch = 1, std::int64_t length = 0);

// One line per device of the loaded backends, and one per backend that could not be loaded.
std::string describe_devices();
// One line per kernel slot: its name and, for each device, the element types that its kernel accepts.
std::string describe_kernels();

}  // namespace mblm
