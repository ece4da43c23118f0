// The arithmetic of training, without data, files or a schedule.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/io/safetensors.h"
#include "mblm/model.h"
#include "train/data/dataset.h"
#include "train/optimizer.h"

namespace mblm {

// Micro-steps add gradients, an optimizer step uses them up: for each group of `accumulate` micro-batches (with
// several workers those of all: each adds its own, and the gradients are summed before the step)
//   for (const Batch& batch : group) runner.micro_step(batch, context);
//   runner.optimizer_step(learning_rate);
class StepRunner {
 public:
  // The model must be allocated, and live as long as this. `clip` 0: never.
  StepRunner(Model& model, std::int64_t accumulate, double clip);

  // Adds the gradient of loss / accumulate. Gives the loss: a scalar on the model's device, not waited for.
  Tensor micro_step(const Batch& batch, const ForwardContext& context);
  // The same in two halves, for who measures them.
  Tensor forward(const Batch& batch, const ForwardContext& context);
  void backward(const Tensor& loss);

  // False when `loss`, that of the group, or the gradient was not finite: then the parameters are as they were.
  bool optimizer_step(double learning_rate, double loss);
  bool optimizer_step(double learning_rate) { return optimizer_step(learning_rate, group_loss()); }
  // Sum of the losses of the group's micro-steps so far, or of the last group. Waits for the device.
  double group_loss() const { return group_loss_.item(); }

  Adam& adam() { return adam_; }

  // All that the next step needs, as views: parameters, moments, and within a group the gradients and losses so far.
  std::vector<NamedTensor> state();
  std::vector<NamedTensor> state_between_groups();  // parameters and moments
  // Goes on from such a state after `adam_steps` steps of Adam. Throws FileError when the model is another; then nothing is
  // changed.
  void restore(const SafetensorsFile& state, std::int64_t adam_steps);

 private:
  Model& model_;
  Adam adam_;
  const std::int64_t accumulate_;
  bool gradients_used_ = true;  // what the gradient arena and group_loss_ hold belongs to a step that was taken
  Tensor group_loss_;           // (1)
};

// The loss of a batch that is read for the model (read_batch), whose input is moved to the model's device.
Model::Loss batch_loss(const Model& model, const Batch& batch, const ForwardContext& context = {});

}  // namespace mblm
