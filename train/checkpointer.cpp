#include "train/checkpointer.h"

#include <optional>
#include <string>
#include <vector>

#include "engine/io/checksum.h"
#include "train/immutable_fields.h"

namespace mblm {
namespace {

// Each worker knows its share of the data only.
std::string fingerprint_of(const TrainingData& data, const Workers& workers) {
  const std::vector<std::string> shares = workers.exchange(data.train().fingerprint());
  if (shares.size() == 1) return shares.front();
  Checksum sum;
  for (const std::string& share : shares) sum.add(share);
  return concat_text(shares.size(), " shares, checksum ", sum.text());
}

}  // namespace

Checkpointer::Checkpointer(const RunConfig& config, const TrainerHooks& hooks, Schedule& schedule, const Workers& workers, const TrainingData& data,
                           Model& model, TrainingSteps& steps, RunFolder& folder, BestCheckpoints& best, Recorder& recorder)
    : config_(config),
      hooks_(hooks),
      schedule_(schedule),
      workers_(workers),
      data_(data),
      model_(model),
      steps_(steps),
      folder_(folder),
      best_(best),
      recorder_(recorder),
      states_(folder.states()),
      data_fingerprint_(fingerprint_of(data, workers)) {}

void Checkpointer::save_if_best(double validation_loss, const TrainingState& state) {
  std::filesystem::path saved;
  best_.add({validation_loss, state.cumulative_batch()}, [&](const std::filesystem::path& path) {
    save_model(model_, path, {{loss_metadata_key, shortest_text(validation_loss)}});
    saved = path;
  });
  if (saved.empty()) return;
  report_saved({.kind = SavedFile::Kind::Best, .path = saved, .step = state.steps, .micro_step = state.micro_step, .validation_loss = validation_loss});
}

void Checkpointer::save_last(const TrainingState& state) {
  std::filesystem::path saved;
  best_.save_last([&](const std::filesystem::path& path) {
    save_model(model_, path);
    saved = path;
  });
  report_saved({.kind = SavedFile::Kind::Last, .path = saved, .step = state.steps, .micro_step = state.micro_step});
}

void Checkpointer::report_saved(const SavedFile& file) const {
  if (hooks_.on_save) hooks_.on_save(file);
}

void Checkpointer::load_best() {
  workers_.on_rank0([&] {
    best_.remove_others();
    if (best_.list().empty()) return;
    const Checkpoint& best = best_.list().front();
    load_parameters(model_, best_.path_of(best));
    recorder_.log(concat_text("the best model has validation loss ", shortest_text(best.loss)));
  });
  workers_.broadcast(model_.parameters().values());
  model_.parameters().values_changed();
}

void Checkpointer::save_state(const TrainingState& state) {
  folder_.flush();  // writes the rows that the state counts to disk first
  const std::filesystem::path saved = states_.save({.training = state,
                                                    .sequences = data_.train().size(0),
                                                    .rows = folder_.rows(),
                                                    .best = best_.list(),
                                                    .data = data_fingerprint_,
                                                    .config = immutable_fields(config_, workers_.size()),
                                                    .warmup_steps = schedule_.warmup_steps(),
                                                    .hooks = result_hooks(hooks_)},
                                                   steps_.tensors());
  recorder_.log(concat_text("saved the state after micro-step ", state.micro_step));
  report_saved({.kind = SavedFile::Kind::State, .path = saved, .step = state.steps, .micro_step = state.micro_step});
}

// Checks everything before it changes the model or the folder.
TrainingState Checkpointer::restore(bool accept_changed_data) {
  const std::optional<NewestState> newest = states_.newest();
  if (!newest) {
    require<FileError>(!config_.resume, folder_.path().string(), ": expected a state in state/, since the run started from a checkpoint, there is none");
    folder_.go_back_to({});
    recorder_.log("no saved state; restarts from the beginning");
    return {};
  }
  const SavedState& saved = *newest->saved;
  const RunState& state = saved.state;
  check_state(state);
  check_data(state, accept_changed_data);
  folder_.check_rows(state.rows);
  steps_.restore(saved.tensors);
  states_.put_aside_damaged(*newest, [this](const std::string& warning) { recorder_.warn(warning); });
  folder_.go_back_to(state.rows);
  best_.restore(state.best);
  if (state.warmup_steps) schedule_.keep_warmup(*state.warmup_steps);
  recorder_.log(concat_text("resumes after micro-step ", state.training.micro_step, " of ", schedule_.micro_steps()));
  return state.training;
}

void Checkpointer::check_state(const RunState& state) const {
  const std::string differing = changed_fields(state.config, config_, workers_.size());
  require<ConfigError>(differing.empty(), folder_.path().string(), ": cannot change fields of a run: ", differing);
  const std::string hooks = result_hooks(hooks_);
  const auto named = [](const std::string& names) { return names.empty() ? "none" : names; };
  require<ConfigError>(state.hooks == hooks, folder_.path().string(), ": the run uses trainer hooks of its program: ", named(state.hooks), "; this program sets ",
                       named(hooks), ". Resume it with the program that began it");
  require<ConfigError>(state.training.micro_step <= schedule_.micro_steps(), folder_.path().string(), ": expected a length (train.target_elements, ",
                       "max_steps or epochs) of at least the ", state.training.micro_step, " micro-steps that are done, got ", schedule_.micro_steps());
}

void Checkpointer::check_data(const RunState& state, bool accept_changed_data) const {
  const std::int64_t sequences = data_.train().size(0);
  const bool is_same = sequences == state.sequences && (state.data.empty() || state.data == data_fingerprint_);
  if (is_same) return;
  const std::string change = concat_text(config_.io.dataset_dir, ": the training data changed since the run began (",
                                         sequences == state.sequences ? concat_text(state.data, ", now ", data_fingerprint_)
                                                                      : concat_text(state.sequences, " sequences, now ", sequences), ")");
  require<FileError>(accept_changed_data, change, "; restore it, or resume with --accept-changed-data");
  recorder_.warn(change);
}

}  // namespace mblm
