// A stage's model: a sequence of vectors in, one of the same size out. Transformer (decoder and encoder), Mamba-2 and Mamba-1
// are built in; an embedding program adds its own by deriving BlockConfig (mblm/config/block_config.h) and StageBlock.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/parameters.h"
#include "engine/tensor.h"
#include "ops/step_scalars.h"

namespace mblm {

// What a forward pass needs to know beside its input. Random numbers are functions of `seed` and of the micro-step.
struct ForwardContext {
  bool training = false;              // dropout is active
  std::uint64_t seed = 0;
  Tensor step_scalars = {};           // StepScalars, on the model's device (ops/step_scalars.h); undefined: micro-step 0
  std::int64_t first_sequence = 0;    // index of the input's first sequence in the global batch of that micro-step
  // Of a masked language model: uint8, 1 for what is attended to; undefined: all. For a model (B, L) bytes, shaped like its
  // input, on any device; for a block (B, T) tokens on the block's device.
  Tensor token_mask = {};

  RandomStream random(std::uint32_t site) const { return {seed, site, step_scalars}; }
};

// What a block remembers of the tokens it has seen. All tensors have the batch leading, so that joining, leaving, branching
// and saving are gathers of rows. The block decides which tensors it keeps.
struct State {
  std::vector<Tensor> tensors;
  std::vector<std::int64_t> lengths;  // tokens that each row has seen

  std::int64_t batch() const { return std::ssize(lengths); }
  std::int64_t longest() const;             // of the lengths; 0 without rows
  Tensor positions(Device device) const;    // the lengths as a tensor: (B) int64
  void advance(std::int64_t tokens);        // each row has seen so many more
  // A state of one row as the state of each of `batch` rows. The state after a stage's start token is the same for every
  // sequence: a stage computes it once, with one row, and starts each patch from a repetition of it. Throws ShapeError for another batch.
  State repeated(std::int64_t batch) const;
};

// The dropout of a layer of a stage block, active in training only: `site` names the layer (Scope::site), and what a
// sequence of x (B, ...) loses depends on its place in the global batch.
Tensor dropout(const Tensor& x, double p, std::uint32_t site, const ForwardContext& context);

class StageBlock {
 public:
  virtual ~StageBlock() = default;

  // x (B, T, D) -> (B, T, D); output t depends on tokens 0 .. t only, or, of an encoder (BlockConfig::is_encoder), on all that
  // context.token_mask lets through. With a state, x holds the tokens that follow those
  // seen before, and the state moves on; then nothing is recorded. Without one x is the whole sequence.
  virtual Tensor forward(const Tensor& x, State* state, const ForwardContext& context) const = 0;

  // A state before any token, for `batch` sequences of at most `capacity` tokens; none for a block that has no state: then
  // its stage is computed again from the start for each new token.
  virtual std::unique_ptr<State> start(std::int64_t batch, std::int64_t capacity) const;
};

// Declares parameters under a common prefix: Scope(store, "stage_models.0").child("layers.1").add("norm.weight", ...).
class Scope {
 public:
  Scope(ParameterStore& store, std::string prefix) : store_(&store), prefix_(std::move(prefix)) {}
  Scope child(const std::string& name) const { return Scope(*store_, full(name)); }
  std::string full(const std::string& name) const { return prefix_.empty() ? name : prefix_ + "." + name; }

  Parameter& add(const std::string& name, const Shape& shape, Init init) const { return store_->add(full(name), shape, std::move(init)); }
  Parameter& add_merged(std::vector<ParameterPart> parts) const;  // names of the parts are relative too
  const Constant& add_constant(const std::string& name, Tensor value) const { return store_->add_constant(full(name), std::move(value)); }
  // A constant that is in no file.
  const Constant& add_unnamed_constant(Tensor value) const { return store_->add_constant("", std::move(value)); }
  // The site of the random numbers of a layer.
  std::uint32_t site(const std::string& name) const { return site_of(full(name)); }

 private:
  ParameterStore* store_;
  std::string prefix_;
};

// A linear layer's parameters: weight (out, in), uniform in +-1/sqrt(in), and a bias like it unless told otherwise. Its
// product is the place of a model's matrix precision: bfloat16 where the model has its weights in bfloat16.
struct LinearParameters {
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
  Tensor operator()(const Tensor& x) const;
};
LinearParameters add_linear(const Scope& scope, const std::string& name, std::int64_t in, std::int64_t out, bool bias = true);

}  // namespace mblm
