// How a run saves its state and goes on from it.
#include <cmath>

#include "train/kept_fields.h"
#include "train/trainer.h"

namespace mblm {

void Trainer::save_state() {
  take_outcomes(StepRunner::Newest::WaitFor);
  by_first([this] { write_state(); });
  state_saved_ = std::chrono::steady_clock::now();
}

void Trainer::write_state() {
  folder_.flush();  // the rows that the state counts are on disk before it
  states_.save({.training = state_,
                .first_batch = first_batch_,
                .sequences = data_.train->size(0),
                .rows = folder_.rows(),
                .best = best_.list(),
                .config = kept_fields(config_, workers_.size())},
               steps_.state());
  log(concat_text("the state after micro-step ", state_.micro_step, " is saved"));
}

// Nothing in the folder changes before all is checked.
void Trainer::go_on() {
  const std::optional<SavedState> saved = states_.newest([this](const std::string& warning) { warn(warning); });
  const std::string folder = folder_.path().string();
  if (!saved) {
    require<FileError>(!config_.resume, folder, ": expected a state in state/, since the run started from a checkpoint, found none");
    folder_.go_back_to({});
    log("no state was saved; begins anew");
    return write_config();
  }
  const RunState& state = saved->state;
  check_state(state, saved->tensors.path());
  steps_.restore(saved->tensors);
  folder_.go_back_to(state.rows);
  state_ = state.training;
  first_batch_ = state.first_batch;
  best_.restore(state.best);
  log(concat_text("goes on after micro-step ", state_.micro_step, " of ", schedule_.micro_steps()));
  write_config();
}

void Trainer::check_state(const RunState& state, const std::filesystem::path& file) const {
  const std::string differing = differing_fields(state.config, kept_fields(config_, workers_.size()));
  require<ConfigError>(differing.empty(), folder_.path().string(), ": expected the fields that the run has kept so far, found others: ", differing);
  require<FileError>(data_.train->size(0) == state.sequences, config_.io.dataset_dir, ": expected the training data that the run has used so far, of ",
                     state.sequences, " sequences, found ", data_.train->size(0));
  require<FileError>(state.training.micro_step <= schedule_.micro_steps(), file.string(), ": expected at most ", schedule_.micro_steps(),
                     " micro-steps, found ", state.training.micro_step);
}

// What went wrong in the group of micro-steps that is over.
std::string Trainer::nonfinite_text(const StepOutcome& outcome) const {
  const bool finite_loss = std::isfinite(outcome.loss);
  std::string text = finite_loss ? "expected a finite gradient, found another" : concat_text("expected a finite loss, found ", outcome.loss);
  if (outcome.parameter < 0) return text;
  const std::string parameter = model_->parameters().named_gradients()[static_cast<std::size_t>(outcome.parameter)].name;
  text += finite_loss ? "" : ", and its gradient";
  return text + concat_text(" first in stage ", stage_of_parameter(parameter, config_.model.stages()), " in ", parameter);
}

}  // namespace mblm
