#include "train/step_runner.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>

#include "engine/autograd.h"
#include "ops/scale.h"
#include "train/input_staging.h"
#include "train/step_graphs.h"

namespace mblm {

namespace {

// Prefixes of names in a state.
const std::string constant_prefix = "constant.", optimizer_prefix = "optimizer.", hook_prefix = "hook.";

// Describes everything on the host that the work of a micro-step depends on.
std::string key_of(const ModelInput& input, const ForwardContext& context) {
  std::ostringstream key;
  const auto add = [&key](const Tensor& x) {
    if (x.defined()) key << x.dtype() << x.shape();
    key << ';';
  };
  add(input.ids);
  for (const Tensor& mask : input.token_masks) add(mask);
  add(input.targets);
  add(input.loss_mask);
  key << input.length << ' ' << input.is_nested << ' ' << context.training << ' ' << context.seed << ' ' << context.first_sequence;
  return std::move(key).str();
}

// The tensors that hooks keep, under their names in a state.
std::vector<NamedTensor> own_state_of(const TrainerHooks& hooks, const Optimizer* optimizer, const Model& model) {
  std::vector<NamedTensor> all;
  std::set<std::string> names;
  const Device device = model.parameters().values().device();
  const auto add = [&](const std::string& prefix, const std::vector<NamedTensor>& tensors) {
    for (const auto& [name, tensor] : tensors) {
      require<ValueError>(names.insert(prefix + name).second, "trainer hooks: state: duplicate name ", name);
      require<ValueError>(tensor.defined(), "trainer hooks: state: ", name, ": expected a tensor, it is undefined");
      require<DeviceError>(tensor.device() == device, "trainer hooks: state: ", name, ": expected a tensor on ", device, ", got one on ", tensor.device());
      all.push_back({prefix + name, tensor});
    }
  };
  if (optimizer != nullptr) add(optimizer_prefix, optimizer->state());
  if (hooks.state) add(hook_prefix, hooks.state(model));
  return all;
}

}  // namespace

StepRunner::StepRunner(Model& model, std::int64_t accumulate, const UpdateOptions& options, bool graphs, const TrainerHooks& hooks)
    : model_(model),
      accumulate_(accumulate),
      options_(options),
      hooks_(hooks),
      own_optimizer_(hooks.make_optimizer ? hooks.make_optimizer(model) : nullptr),
      own_state_(own_state_of(hooks, own_optimizer_.get(), model)),
      scalars_(make_step_scalars(model.parameters().values().device())),
      copies_{AsyncCopy(scalars_.device(), scalars_.bytes()), AsyncCopy(scalars_.device(), scalars_.bytes())} {
  const Device device = scalars_.device();
  if (!own_optimizer_) adam_.emplace(model.parameters(), options);
  if (hooks_.loss) one_ = from_values<std::int64_t>(Shape{}, std::vector<std::int64_t>{1}, device);
  if (device.kind == DeviceKind::Cpu) return;
  staging_ = std::make_unique<InputStaging>(device);
  if (graphs && StepGraphs::are_supported(device)) graphs_ = std::make_unique<StepGraphs>(device, *staging_);
}

StepRunner::~StepRunner() = default;

void StepRunner::set_micro_step(std::int64_t micro_step) { write_step_scalar(scalars_, &StepScalars::micro_step, static_cast<double>(micro_step)); }

Tensor StepRunner::micro_step(const ModelInput& input, const ForwardContext& context) {
  start_group();
  const auto run = [&](const ModelInput& there) {
    const Model::Loss loss = compute_loss(there, context);
    accumulate_gradient(loss);
    return loss.loss.detach();
  };
  const bool is_on_host = input.ids.device().kind == DeviceKind::Cpu;
  if (staging_ == nullptr || !is_on_host) return run(input);
  return graphs_ == nullptr || (hooks_.loss && !hooks_.loss_fits_graph) ? run(staging_->to_device(input)) : graphs_->run_micro_step(key_of(input, context), input, run);
}

Model::Loss StepRunner::forward(const ModelInput& input, ForwardContext context) const { return compute_loss(input, std::move(context)); }

void StepRunner::backward(const Model::Loss& loss) {
  start_group();
  accumulate_gradient(loss);
}

// Moves the input to the model's device if it is elsewhere.
Model::Loss StepRunner::compute_loss(const ModelInput& there, ForwardContext context) const {
  context.step_scalars = scalars_;
  const Tensor& values = model_.parameters().values();
  const ModelInput input = to_device(there, values.device(), values.dtype());
  if (!hooks_.loss) return model_.loss(input, context);
  const Tensor loss = hooks_.loss(model_, input, context);
  require<ShapeError>(loss.defined() && loss.rank() == 0, "trainer hooks: loss: expected a scalar, got ",
                      loss.defined() ? concat_text("shape ", loss.shape()) : "an undefined tensor");
  require<GradientError>(loss.wants_grad() || !is_recording(), "trainer hooks: loss: expected a loss that depends on the parameters, it has no gradient");
  return {.loss = loss, .elements = {}, .count = one_, .logits = {}};
}

void StepRunner::accumulate_gradient(const Model::Loss& loss) {
  mblm::backward(loss.loss, {}, 1.0 / static_cast<double>(accumulate_));
  count_micro_step(loss.loss, loss.count, scalars_);
}

void StepRunner::start_group() {
  if (gradients_used_) model_.parameters().zero_gradients();
  gradients_used_ = false;
}

void StepRunner::optimizer_step(const StepInfo& info, Collective* collective) {
  write_step_scalar(scalars_, &StepScalars::learning_rate, info.learning_rate);
  if (collective != nullptr) sum_over_workers(collective);
  if (hooks_.before_update) {
    const NoGradScope no_grad;
    hooks_.before_update(model_, info);
  }
  update(info);
  if (hooks_.after_update) {
    const NoGradScope no_grad;
    hooks_.after_update(model_, info);
  }
  gradients_used_ = true;
  copies_[static_cast<std::size_t>(++steps_ % 2)].start(scalars_);
  taken_ = std::max(taken_, steps_ - 2);
}

void StepRunner::sum_over_workers(Collective* collective) {
  Tensor reduced = model_.parameters().reduced();
  const std::int64_t behind = model_.parameters().gradients().numel();
  Tensor sums = reduced.slice(behind, behind + step_sums);
  pack_step_sums(scalars_, sums);
  collective->sum(reduced);
  unpack_step_sums(sums, scalars_);
}

void StepRunner::update(const StepInfo& info) {
  if (own_optimizer_) return update_with_own_optimizer(info);
  if (graphs_ == nullptr) adam_->step(scalars_);
  else graphs_->run_update([this] { adam_->step(scalars_); });
  model_.parameters().values_and_copy_changed();
}

// Waits for the device: the optimizer is called only if the step applies, and gets clipped gradients. The gradients of the model remain
// unclipped, as after a step of Adam.
void StepRunner::update_with_own_optimizer(const StepInfo& info) {
  const NoGradScope no_grad;
  ParameterStore& parameters = model_.parameters();
  gradient_norm(parameters.gradients(), parameters.segments(), options_.gradient, scalars_);
  const StepScalars s = read_step_scalars(scalars_);
  if (s.applies != 0) {
    Tensor values = parameters.values();
    own_optimizer_->step(values, s.clip_factor == 1 ? parameters.gradients() : scale(parameters.gradients(), s.clip_factor), info);
    parameters.values_changed();
  }
  // A step of Adam on no parameters closes the group.
  const DType dtype = parameters.values().dtype();
  const auto nothing = [&] { return zeros(Shape{ParameterStore::alignment}, dtype, scalars_.device()); };
  Tensor values = nothing(), first_moment = nothing(), second_moment = nothing(), copy;
  adam_step(values, nothing(), first_moment, second_moment, copy, Tensor(), {}, scalars_);
}

StepOutcome StepRunner::outcome_of(std::int64_t step) const {
  const auto s = copies_[static_cast<std::size_t>(step % 2)].value<StepScalars>();
  const bool finite = s.nonfinite_step != s.steps;
  return {.step = static_cast<std::int64_t>(s.steps),
          .finite = finite,
          .loss = s.group_loss,
          .gradient_norm = s.gradient_norm,
          .clip_factor = s.clip_factor,
          .parameter = finite ? -1 : static_cast<std::int64_t>(s.nonfinite_parameter)};
}

std::vector<StepOutcome> StepRunner::take_outcomes(Newest newest) {
  std::vector<StepOutcome> outcomes;
  for (const std::int64_t end = newest == Newest::WaitFor ? steps_ : steps_ - 1; taken_ < end;) outcomes.push_back(outcome_of(++taken_));
  return outcomes;
}

StepOutcome StepRunner::last_outcome() const {
  require(steps_ > 0, "train: expected an optimizer step before last_outcome, there was none");
  return outcome_of(steps_);
}

std::string StepRunner::take_note() { return graphs_ == nullptr ? "" : graphs_->take_note(); }

std::vector<NamedTensor> StepRunner::state_between_groups() const {
  std::vector<NamedTensor> state{{"values", model_.parameters().values()}, {"step_scalars", scalars_}};
  if (adam_) state.insert(state.end(), {{"first_moment", adam_->first_moment()}, {"second_moment", adam_->second_moment()}});
  state.insert(state.end(), own_state_.begin(), own_state_.end());
  for (const auto& constant : model_.parameters().constants())
    if (!constant->name().empty()) state.push_back({constant_prefix + constant->name(), constant->tensor()});
  return state;
}

std::vector<NamedTensor> StepRunner::state() const {
  std::vector<NamedTensor> state = state_between_groups();
  if (!gradients_used_) state.push_back({"gradients", model_.parameters().gradients()});
  return state;
}

void StepRunner::restore(const SafetensorsFile& file) {
  const bool within_group = file.has("gradients");
  std::vector<NamedTensor> targets = state_between_groups();
  if (within_group) targets.push_back({"gradients", model_.parameters().gradients()});
  // States of earlier versions contain no constants, which had their initial values.
  std::erase_if(targets, [&](const NamedTensor& target) { return target.name.starts_with(constant_prefix) && !file.has(target.name); });
  for (const auto& [name, target] : targets) {
    const Tensor saved = file.tensor(name);
    require<FileError>(saved.shape() == target.shape() && saved.dtype() == target.dtype(), file.path().string(), ": ", name, ": expected ", target.dtype(),
                       " of shape ", target.shape(), ", found ", saved.dtype(), " of shape ", saved.shape());
  }
  for (const auto& [name, target] : targets) Tensor(target).from_host(file.tensor(name).host_bytes().data());
  gradients_used_ = !within_group;
  model_.parameters().values_changed();
}

}  // namespace mblm
