// Runs the computations of training steps, independent of data, files and schedule.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/async_copy.h"
#include "engine/collective.h"
#include "engine/io/safetensors.h"
#include "mblm/model.h"
#include "train/optimizer.h"
#include "train/trainer_hooks.h"

namespace mblm {

class InputStaging;
class StepGraphs;

// The outcome of an optimizer step.
struct StepOutcome {
  std::int64_t step = 0;  // counted from 1, including steps that were not applied
  bool finite = true;     // loss and gradient are finite; otherwise the update was not applied
  double loss = 0;        // sum over the micro-batches of the group on all workers
  double gradient_norm = 0, clip_factor = 1;
  std::int64_t parameter = -1;  // index into named_gradients() of the last one that is not finite, which backward reaches first; -1: none
};

// Micro-steps accumulate gradients, an optimizer step applies them. For each group of `accumulate` micro-batches:
//   for (const ModelInput& input : group) runner.micro_step(input, context);
//   runner.optimizer_step(learning_rate);
// Neither waits for the device. With several workers, each one accumulates the gradients of its own micro-batches, `accumulate` is the
// number of micro-batches on all workers, and optimizer_step sums the gradients over the workers.
class StepRunner {
 public:
  // The model must be allocated and outlive this object. `graphs` captures micro-steps and updates as graphs where the device supports it
  // (train/step_graphs.h); the results have the same bits. Of `hooks` it uses loss, before_update, after_update, make_optimizer and state.
  StepRunner(Model& model, std::int64_t accumulate, const UpdateOptions& options = {}, bool graphs = false, const TrainerHooks& hooks = {});
  ~StepRunner();

  // Sets the index of the next micro-batch, which is part of every random key. It starts at 0, and each micro-step increments it.
  void set_micro_step(std::int64_t micro_step);

  // Accumulates the gradient of loss / accumulate. Moves the input to the model's device and returns the loss, a scalar on that device.
  // Uses the step scalars of this object instead of those of `context`.
  Tensor micro_step(const ModelInput& input, const ForwardContext& context);
  // The two halves of micro_step, for separate timing. They run without a graph.
  Model::Loss forward(const ModelInput& input, ForwardContext context) const;
  void backward(const Model::Loss& loss);

  // Applies one step of Adam or of the optimizer of `hooks` with the gradients of the group. Does not change the parameters if the loss or
  // gradient is not finite. `info` is for the hooks.
  void optimizer_step(const StepInfo& info, Collective* collective = nullptr);
  void optimizer_step(double learning_rate, Collective* collective = nullptr) { optimizer_step(StepInfo{.learning_rate = learning_rate}, collective); }
  // Returns the outcomes that were not yet taken, in order. Leave excludes the last optimizer step, which may still be running on the
  // device; WaitFor waits for it. Only the last two outcomes are available.
  enum class Newest { Leave, WaitFor };
  std::vector<StepOutcome> take_outcomes(Newest newest);
  bool has_outcome() const { return steps_ > 0; }  // whether this object has run an optimizer step
  // The outcome of the last optimizer step. Waits for the device.
  StepOutcome last_outcome() const;

  // A line for the log, if micro-steps or updates cannot be captured; empty if not, and after the call.
  std::string take_note();

  // Views of everything that the next step requires: parameters, moments, step scalars, and within a group the gradients.
  std::vector<NamedTensor> state() const;
  std::vector<NamedTensor> state_between_groups() const;
  // Restores such a state. Throws FileError if it does not match the model; nothing is changed then.
  void restore(const SafetensorsFile& state);

 private:
  StepOutcome outcome_of(std::int64_t step) const;
  Model::Loss compute_loss(const ModelInput& there, ForwardContext context) const;
  void accumulate_gradient(const Model::Loss& loss);
  void start_group();
  void sum_over_workers(Collective* collective);
  void update(const StepInfo& info);
  void update_with_own_optimizer(const StepInfo& info);

  Model& model_;
  const std::int64_t accumulate_;
  const UpdateOptions options_;
  const TrainerHooks hooks_;
  std::optional<Adam> adam_;                  // not set with an optimizer of the program's own
  std::unique_ptr<Optimizer> own_optimizer_;
  std::vector<NamedTensor> own_state_;        // of the hooks and the own optimizer
  Tensor scalars_;
  Tensor one_;                                // the count of a loss of the program's own, scalar int64
  bool gradients_used_ = true;          // an optimizer step has applied the accumulated gradients
  std::unique_ptr<InputStaging> staging_;  // null on the CPU
  std::unique_ptr<StepGraphs> graphs_;     // null: no graphs
  std::array<AsyncCopy, 2> copies_;     // step scalars after each step, alternating
  std::int64_t steps_ = 0, taken_ = 0;  // optimizer steps of this object, and outcomes that were taken or overwritten
};

}  // namespace mblm
