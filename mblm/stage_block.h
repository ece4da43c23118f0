// The block of a stage: maps a sequence of vectors to a sequence of the same shape. Built in are Transformer (decoder and
// encoder), Mamba-2 and Mamba-1. Embedding programs add blocks by deriving BlockConfig (mblm/config/block_config.h) and StageBlock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/parameters.h"
#include "engine/tensor.h"
#include "ops/step_scalars.h"

namespace mblm {

// Settings of a forward pass. Random numbers are functions of `seed` and the micro-step.
struct ForwardContext {
  bool training = false;              // dropout is active
  std::uint64_t seed = 0;
  Tensor step_scalars = {};           // StepScalars, on the model's device (ops/step_scalars.h); undefined: micro-step 0
  std::int64_t first_sequence = 0;    // index of the input's first sequence in the global batch of that micro-step
  // For masked language models: uint8, 1 for the tokens to attend to; undefined means all. A model takes one entry per byte,
  // shaped like its input, on any device; a block takes one per token, (B, T), on its own device.
  Tensor token_mask = {};

  RandomStream random(std::uint32_t site) const { return {seed, site, step_scalars}; }
};

// The state of a block after some tokens of a batch of sequences. The block decides what it stores.
struct State {
  // Values that a block replaces as a whole, with the batch as leading axis: (B, ...). A block never writes into these tensors, so
  // copies of a state share them.
  std::vector<Tensor> tensors;
  // Lists that grow by one row per token, such as keys and values: for each list one tensor (capacity, D) per sequence. A block writes
  // the rows of new tokens, from lengths[b] on, after reserve() has made room for them.
  std::vector<std::vector<Tensor>> lists;
  std::vector<std::int64_t> lengths;  // number of tokens that each sequence has processed

  State() = default;
  explicit State(std::int64_t batch) : lengths(static_cast<std::size_t>(batch), 0) {}
  // Adds a list of empty tensors (0, width), one per sequence.
  void add_list(std::int64_t width, DType dtype, Device device);

  std::int64_t batch() const { return std::ssize(lengths); }
  Tensor positions(Device device) const;  // the lengths as a tensor (B) int64
  // Makes room in each list for `tokens` more rows per sequence. A list that is full doubles its capacity.
  void reserve(std::int64_t tokens);
  void advance(std::int64_t tokens);  // adds `tokens` to each length

  State copy() const;  // copies the rows of the lists
  // One state of all sequences, and the reverse: a state of one sequence each.
  static State joined(std::vector<State> states);
  static std::vector<State> split(State state);
};

// Dropout of a layer of a block, active in training only. `site` identifies the layer (Scope::site). The dropped elements of a
// sequence of x (B, ...) depend on its index in the global batch.
Tensor dropout(const Tensor& x, double p, std::uint32_t site, const ForwardContext& context);

class StageBlock {
 public:
  virtual ~StageBlock() = default;

  // x (B, T, D) -> (B, T, D). Output t depends on tokens 0 .. t only; for an encoder (BlockConfig::is_encoder) on all tokens in
  // context.token_mask. Without a state, x is the whole sequence. With a state, x contains the tokens that follow the ones already
  // processed, T of each sequence; the state is updated, and the operations are not recorded for a backward pass.
  // On a GPU, a training step is captured as a graph and replayed without running this function (train.cuda_graphs): its work must not
  // depend on host values that change between calls. A function that reads tensors on the host cannot be captured and runs each time.
  // x is the residual stream in the dtype of the parameters: float32 also in a bfloat16 model, whose blocks may return either dtype.
  virtual Tensor forward(const Tensor& x, State* state, const ForwardContext& context) const = 0;

  // Returns the state before the first token of `batch` sequences. Returns null if the block has no state; generation then keeps the
  // inputs of its stage and recomputes the stage for each new token.
  virtual std::unique_ptr<State> start(std::int64_t batch) const;
};

// Declares parameters under a common prefix: Scope(store, "stage_models.0").child("layers.1").add("norm.weight", ...).
class Scope {
 public:
  Scope(ParameterStore& store, std::string prefix) : store_(&store), prefix_(std::move(prefix)) {}
  Scope child(const std::string& name) const { return Scope(*store_, full(name)); }
  std::string full(const std::string& name) const { return prefix_.empty() ? name : prefix_ + "." + name; }

  Parameter& add(const std::string& name, const Shape& shape, Init init) const { return store_->add(full(name), shape, std::move(init)); }
  Parameter& add_merged(std::vector<ParameterPart> parts) const;  // the names of the parts are relative to the prefix
  const Constant& add_constant(const std::string& name, Tensor value) const { return store_->add_constant(full(name), std::move(value)); }
  // Adds a constant that is not saved in checkpoints.
  const Constant& add_unnamed_constant(Tensor value) const { return store_->add_constant("", std::move(value)); }
  // The site of a layer's random numbers.
  std::uint32_t site(const std::string& name) const { return store_->random_site(full(name)); }

 private:
  ParameterStore* store_;
  std::string prefix_;
};

// The parameters of a linear layer: weight (out, in) and, optionally, bias (out), both initialized uniformly in +-1/sqrt(in). Its
// product reads the bfloat16 copy of the weight in a bfloat16 model. The result has y_dtype, or the dtype of x when unset.
struct LinearParameters {
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
  Tensor operator()(const Tensor& x, std::optional<DType> y_dtype = {}) const;
};
LinearParameters add_linear(const Scope& scope, const std::string& name, std::int64_t in, std::int64_t out, bool bias = true);

}  // namespace mblm
