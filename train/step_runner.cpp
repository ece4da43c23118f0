#include "train/step_runner.h"

#include <cmath>

#include "engine/autograd.h"
#include "ops/add.h"

namespace mblm {

Model::Loss batch_loss(const Model& model, const Batch& batch, const ForwardContext& context) {
  const Tensor& values = model.parameters().values();
  return model.loss(to_device(batch.input, values.device(), values.dtype()), context);
}

StepRunner::StepRunner(Model& model, std::int64_t accumulate, double clip)
    : model_(model),
      adam_(model.parameters(), clip),
      accumulate_(accumulate),
      group_loss_(zeros(Shape{1}, model.parameters().values().dtype(), model.parameters().values().device())) {}

Tensor StepRunner::micro_step(const Batch& batch, const ForwardContext& context) {
  const Tensor loss = forward(batch, context);
  backward(loss);
  return loss.detach();
}

Tensor StepRunner::forward(const Batch& batch, const ForwardContext& context) { return batch_loss(model_, batch, context).loss; }

void StepRunner::backward(const Tensor& loss) {
  const Tensor value = loss.detach().reshape(Shape{1});
  group_loss_ = gradients_used_ ? value : add(group_loss_, value);
  if (gradients_used_) model_.parameters().zero_gradients();
  gradients_used_ = false;
  mblm::backward(loss, {}, 1.0 / static_cast<double>(accumulate_));
}

bool StepRunner::optimizer_step(double learning_rate, double loss) {
  gradients_used_ = true;
  return adam_.step(learning_rate, std::isfinite(loss));
}

std::vector<NamedTensor> StepRunner::state_between_groups() {
  const ParameterStore& parameters = model_.parameters();
  return {{"values", parameters.values()},
          {"first_moment", adam_.first_moment()},
          {"second_moment", adam_.second_moment()},
          {"gradient_norm", adam_.norm()}};
}

std::vector<NamedTensor> StepRunner::state() {
  std::vector<NamedTensor> state = state_between_groups();
  if (gradients_used_) return state;
  state.push_back({"gradients", model_.parameters().gradients()});
  state.push_back({"group_loss", group_loss_});
  return state;
}

void StepRunner::restore(const SafetensorsFile& file, std::int64_t adam_steps) {
  gradients_used_ = !file.has("gradients");
  const std::vector<NamedTensor> targets = state();
  for (const auto& [name, target] : targets) {
    const Tensor saved = file.tensor(name);
    require<FileError>(saved.shape() == target.shape() && saved.dtype() == target.dtype(), file.path().string(), ": ", name, ": expected ", target.dtype(),
                       " of shape ", target.shape(), ", found ", saved.dtype(), " of shape ", saved.shape());
  }
  for (const auto& [name, target] : targets) Tensor(target).from_host(file.tensor(name).host_bytes().data());
  adam_.set_steps(adam_steps);
  model_.parameters().values_changed();
}

}  // namespace mblm
