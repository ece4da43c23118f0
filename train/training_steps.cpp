#include "train/training_steps.h"

#include <chrono>
#include <cmath>
#include <string>

namespace mblm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t timed_micro_steps = 30;  // whose times and memory go to timemem.csv

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Adam's own steps: those that were not skipped.
std::int64_t adam_steps(const TrainingState& state) { return state.steps - state.skipped_steps; }

}  // namespace

TrainingSteps::TrainingSteps(const RunConfig& config, const Schedule& schedule, const Workers& workers, Model& model, StepRunner& runner,
                             Recorder& recorder)
    : config_(config), schedule_(schedule), workers_(workers), model_(model), runner_(runner), recorder_(recorder) {}

Tensor TrainingSteps::micro_step(const Batch& batch, TrainingState& state) {
  const ForwardContext context{.training = true,
                               .seed = static_cast<std::uint64_t>(config_.train.seed),
                               .micro_step = static_cast<std::uint32_t>(state.cumulative_batch()),
                               .first_sequence = workers_.rank() * config_.train.batch_size};
  const Tensor loss = state.micro_step < timed_micro_steps ? timed_micro_step(batch, context) : runner_.micro_step(batch, context);
  state.elements += elements_per_batch(config_.train, config_.input_seq_len);
  return loss;
}

// The time of each half, which makes the host wait for the device.
Tensor TrainingSteps::timed_micro_step(const Batch& batch, const ForwardContext& context) {
  const Clock::time_point start = Clock::now();
  const Tensor loss = runner_.forward(batch, context);
  loss.item();
  const double forward_seconds = seconds_since(start);
  const Clock::time_point middle = Clock::now();
  runner_.backward(loss);
  model_.parameters().gradients().slice(0, 1).item();
  recorder_.write_training_time(forward_seconds, seconds_since(middle));
  return loss.detach();
}

void TrainingSteps::optimizer_step(TrainingState& state, double loss) {
  workers_.sum(model_.parameters().gradients());
  const bool is_finite = runner_.optimizer_step(schedule_.learning_rate(state.steps), loss);
  ++state.steps;
  if (!is_finite) handle_nonfinite(state, loss);
}

// The last optimizer step was not taken.
void TrainingSteps::handle_nonfinite(TrainingState& state, double loss) {
  const bool is_loss = !std::isfinite(loss);
  std::string message = concat_text("optimizer step ", state.steps, " after micro-step ", state.micro_step + 1, ": ");
  message += is_loss ? concat_text("expected a finite loss, found ", loss) : "expected a finite gradient, found another";
  const std::string parameter = first_nonfinite_gradient(model_.parameters());
  if (!parameter.empty())
    message += concat_text(is_loss ? ", and its gradient" : "", " first in stage ", stage_of_parameter(parameter, config_.model.stages()), " in ", parameter);
  require(config_.train.on_nonfinite == "skip", "train: ", message, "; the parameters are as before");
  ++state.skipped_steps;
  recorder_.log(message + "; skipped");
}

void TrainingSteps::measure_gradient(TrainingState& state) {
  state.avg_grad = mean_gradient(model_.parameters());
  state.avg_grad_clipped = state.avg_grad * runner_.adam().clip_factor();
}

std::optional<double> TrainingSteps::gradient_norm(const TrainingState& state) {
  if (state.steps == 0) return {};
  return runner_.adam().gradient_norm();
}

void TrainingSteps::restore(const SafetensorsFile& file, const TrainingState& state) { runner_.restore(file, adam_steps(state)); }

void TrainingSteps::share_from_rank0(const TrainingState& state) {
  for (const NamedTensor& named : runner_.state_between_groups()) workers_.broadcast(named.tensor);
  runner_.adam().set_steps(adam_steps(state));
  model_.parameters().values_changed();
}

}  // namespace mblm
