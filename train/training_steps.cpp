#include "train/training_steps.h"

#include <chrono>
#include <cmath>
#include <string>

#include "train/loss_hints.h"

namespace mblm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t timed_micro_steps = 30;  // recorded in timemem.csv

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

TrainingSteps::TrainingSteps(const RunConfig& config, const Schedule& schedule, const Workers& workers, Model& model, StepRunner& runner,
                             Recorder& recorder)
    : config_(config), schedule_(schedule), workers_(workers), model_(model), runner_(runner), recorder_(recorder) {}

Tensor TrainingSteps::micro_step(const Batch& batch, TrainingState& state) {
  const ForwardContext context{.training = true,
                               .seed = static_cast<std::uint64_t>(config_.train.seed),
                               .first_sequence = workers_.rank() * config_.train.batch_size};
  const Tensor loss = state.micro_step < timed_micro_steps ? timed_micro_step(batch.input, context) : runner_.micro_step(batch.input, context);
  if (const std::string note = runner_.take_note(); !note.empty()) recorder_.log(note);
  state.elements += elements_per_batch(config_.train, config_.input_seq_len);
  return loss;
}

// Measures forward and backward separately. item() makes the host wait for the device.
Tensor TrainingSteps::timed_micro_step(const ModelInput& input, const ForwardContext& context) {
  const Clock::time_point start = Clock::now();
  const Model::Loss loss = runner_.forward(input, context);
  loss.loss.item();
  const double forward_seconds = seconds_since(start);
  const Clock::time_point middle = Clock::now();
  runner_.backward(loss);
  model_.parameters().gradients().slice(0, 1).item();
  recorder_.write_training_time(forward_seconds, seconds_since(middle));
  return loss.loss.detach();
}

void TrainingSteps::optimizer_step(TrainingState& state) {
  const StepInfo info{.step = state.steps + 1, .micro_step = state.micro_step + 1, .learning_rate = schedule_.learning_rate(state.steps)};
  runner_.optimizer_step(info, workers_.collective());
  ++state.steps;
  take_outcomes(state, StepRunner::Newest::Leave);
}

void TrainingSteps::finish_steps(TrainingState& state) { take_outcomes(state, StepRunner::Newest::WaitFor); }

void TrainingSteps::take_outcomes(TrainingState& state, StepRunner::Newest newest) {
  for (const StepOutcome& outcome : runner_.take_outcomes(newest)) {
    state.gradient_norm = outcome.gradient_norm;
    if (outcome.finite) {
      state.loss_average.add(outcome.loss / static_cast<double>(config_.train.gradient_accumulate_every * workers_.size()));
      continue;
    }
    const std::string message = nonfinite_text(outcome);
    require(config_.train.on_nonfinite == "skip", "train: ", message, "; the parameters did not change; ", nonfinite_remedy(config_.train));
    ++state.skipped_steps;
    recorder_.log(message + "; skipped");
  }
}

std::string TrainingSteps::nonfinite_text(const StepOutcome& outcome) const {
  const bool is_loss = !std::isfinite(outcome.loss);
  std::string text = concat_text("optimizer step ", outcome.step, " after micro-step ", outcome.step * config_.train.gradient_accumulate_every, ": ");
  text += is_loss ? concat_text("expected a finite loss, got ", outcome.loss) : "gradient is not finite";
  if (outcome.parameter < 0) return text;
  const std::string parameter = model_.parameters().named_gradients()[static_cast<std::size_t>(outcome.parameter)].name;
  const int stage = stage_of_parameter(parameter, config_.model.stages());
  return text + concat_text(is_loss ? "; gradient is not finite" : "", ", first in stage ", stage, ", ", parameter);
}

void TrainingSteps::measure_gradient(TrainingState& state) {
  state.avg_grad = mean_gradient(model_.parameters());
  state.avg_grad_clipped = state.avg_grad * runner_.last_outcome().clip_factor;
}

void TrainingSteps::share_from_rank0() {
  for (const NamedTensor& named : runner_.state_between_groups()) workers_.broadcast(named.tensor);
  model_.parameters().values_changed();
}

}  // namespace mblm
