#include "train/step_runner.h"

#include "engine/autograd.h"
#include "ops/cast.h"

namespace mblm {

Model::Loss batch_loss(const Model& model, const Batch& batch, const ForwardContext& context) {
  const Tensor& values = model.parameters().values();
  Tensor mask = batch.loss_mask.defined() ? to_device(batch.loss_mask, values.device()) : Tensor();
  if (mask.defined() && mask.dtype() != values.dtype()) mask = cast(mask, values.dtype());
  return model.loss(to_device(batch.ids, values.device()), mask, context);
}

StepRunner::StepRunner(Model& model, std::int64_t accumulate, double clip) : model_(model), adam_(model.parameters(), clip), accumulate_(accumulate) {}

Tensor StepRunner::micro_step(const Batch& batch, const ForwardContext& context) {
  const Tensor loss = forward(batch, context);
  backward(loss);
  return loss.detach();
}

Tensor StepRunner::forward(const Batch& batch, const ForwardContext& context) { return batch_loss(model_, batch, context).loss; }

void StepRunner::backward(const Tensor& loss) {
  if (gradients_used_) model_.parameters().zero_gradients();
  gradients_used_ = false;
  mblm::backward(loss, {}, 1.0 / static_cast<double>(accumulate_));
}

bool StepRunner::optimizer_step(double learning_rate) {
  gradients_used_ = true;
  return adam_.step(learning_rate);
}

}  // namespace mblm
