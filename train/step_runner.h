// The arithmetic of training, without data, files or a schedule.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/async_copy.h"
#include "engine/collective.h"
#include "engine/io/safetensors.h"
#include "mblm/model.h"
#include "train/optimizer.h"

namespace mblm {

// What became of an optimizer step.
struct StepOutcome {
  std::int64_t step = 0;  // counted from 1, steps that were not applied included
  bool finite = true;     // loss and gradient; only then the update was applied
  double loss = 0;        // sum over the group's micro-batches, of all workers
  double gradient_norm = 0, clip_factor = 1;
  std::int64_t parameter = -1;  // where the gradient is not finite: its place in ParameterStore::named_gradients()
};

// Micro-steps add gradients, an optimizer step uses them up: for each group of `accumulate` micro-batches
//   for (const ModelInput& input : group) runner.micro_step(input, context);
//   runner.optimizer_step(learning_rate);
// Neither waits for the device. With several workers each adds the gradients of its own micro-batches, `accumulate` counts
// those of all, and optimizer_step adds up the gradients over the workers.
class StepRunner {
 public:
  // The model must be allocated, and live as long as this.
  StepRunner(Model& model, std::int64_t accumulate, const UpdateOptions& options = {});

  // The index of the next micro-batch, a part of every random key. It starts at 0 and each micro-step adds one.
  void set_micro_step(std::int64_t micro_step);

  // Adds the gradient of loss / accumulate. Moves the input to the model's device, and gives the loss, a scalar there. The context's step scalars are
  // this object's, whatever it holds.
  Tensor micro_step(const ModelInput& input, const ForwardContext& context);
  // The same in two halves, for callers that measure them.
  Model::Loss forward(const ModelInput& input, ForwardContext context) const;
  void backward(const Model::Loss& loss);

  // One Adam step from the gradients of the group. A loss or gradient that is not finite leaves the parameters as they were.
  void optimizer_step(double learning_rate, Collective* collective = nullptr);
  // The outcomes that have not been taken yet, in order: all but that of the last optimizer step, which the device may still be
  // working on; or all, which waits. Takes at most the last two.
  enum class Newest { Leave, WaitFor };
  std::vector<StepOutcome> take_outcomes(Newest newest);
  bool has_outcome() const { return steps_ > 0; }  // of a step of this object
  // The outcome of the last optimizer step. Waits for the device.
  StepOutcome last_outcome() const;

  // Everything that the next step needs, as views: parameters, moments, step scalars, and within a group the gradients.
  std::vector<NamedTensor> state() const;
  std::vector<NamedTensor> state_between_groups() const;
  // Continues from such a state. Throws FileError when the model is another; then nothing has changed.
  void restore(const SafetensorsFile& state);

 private:
  StepOutcome outcome_of(std::int64_t step) const;

  Model& model_;
  Adam adam_;
  const std::int64_t accumulate_;
  Tensor scalars_;
  bool gradients_used_ = true;      // the gradient arena holds those of a step that was taken
  std::array<AsyncCopy, 2> copies_;  // of the scalars after each step, in turn
  std::int64_t steps_ = 0, taken_ = 0;  // optimizer steps of this object, and those whose outcome was taken or is too old
};

}  // namespace mblm
