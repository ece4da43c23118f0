#include "train/step_runner.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"
#include "ops/add.h"
#include "ops/cast.h"

namespace mblm {

namespace {

// 1 for all ids but padding; undefined without padding.
Tensor without_padding(const Tensor& ids, std::int64_t pad_token_id) {
  const std::vector<std::int64_t> values = ids.to_vector<std::int64_t>();
  if (std::find(values.begin(), values.end(), pad_token_id) == values.end()) return {};
  std::vector<std::uint8_t> mask(values.size());
  std::transform(values.begin(), values.end(), mask.begin(), [=](std::int64_t id) { return id != pad_token_id; });
  return from_values<std::uint8_t>(ids.shape(), mask);
}

}  // namespace

Model::Loss batch_loss(const Model& model, const Batch& batch, const ForwardContext& context) {
  const Tensor& values = model.parameters().values();
  Tensor mask = batch.loss_mask.defined() ? to_device(batch.loss_mask, values.device()) : Tensor();
  if (mask.defined() && mask.dtype() != values.dtype()) mask = cast(mask, values.dtype());
  const Tensor ids = to_device(batch.ids, values.device());
  if (!model.config().is_masked()) return model.loss(ids, mask, context);
  require<ValueError>(batch.labels.defined(), "data: expected labels for a masked language model, found none");
  ForwardContext masked = context;
  masked.token_mask = without_padding(batch.ids, model.config().pad_token_id);
  return model.masked_loss(ids, batch.labels, mask, masked);
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
