#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "engine/io/folder.h"
#include "train/checkpointer.h"
#include "train/recorder.h"
#include "train/run_header.h"
#include "train/step_runner.h"
#include "train/training_data.h"
#include "train/training_steps.h"
#include "train/worker_sync.h"

namespace mblm {
namespace {

using Clock = std::chrono::steady_clock;

// Rows of loss.csv measure the speed over at least this time: single steps of a small model differ too much.
constexpr double shortest_speed_seconds = 1;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool contains(const std::vector<std::int64_t>& points, std::int64_t point) { return std::binary_search(points.begin(), points.end(), point); }

DeviceInfo info_of(Device device) {
  for (const DeviceInfo& info : available_devices())
    if (info.device == device) return info;
  return {device, concat_text(device), 0};
}

const RunConfig& checked(const RunConfig& config) {
  check_run_config(config);
  return config;
}

// Sets the precision explicitly, so that a run resumed on another device keeps it.
RunConfig with_precision(RunConfig config, Device device) {
  config.train.precision = name_of(precision_named(config.train.precision, device));
  return config;
}

// Opens `resume.checkpoint_file` for a new run.
std::optional<CheckpointFile> open_start(const RunConfig& config, const TrainerOptions& options) {
  if (!config.resume || config.resume->checkpoint_file.empty() || !options.resume_folder.empty()) return {};
  require<FileError>(path_exists(config.resume->checkpoint_file), "resume.checkpoint_file: expected a checkpoint, ", config.resume->checkpoint_file,
                     " does not exist");
  return open_checkpoint(config.resume->checkpoint_file, config.resume->rename_modules ? options.rename_modules : Renames());
}

// Creates the model and loads all weights of `start`. (With `migrate_embeddings` the Python package loads only the weights of the
// vocabulary and drops the others.)
std::unique_ptr<Model> make_model(const RunConfig& config, const std::optional<CheckpointFile>& start, Device device) {
  auto model = std::make_unique<Model>(config.model);
  model->allocate(device, precision_named(config.train.precision, device));
  model->initialize(static_cast<std::uint64_t>(config.train.seed));
  if (start) load_parameters(*model, *start, {.extend_embeddings = config.resume->migrate_embeddings});
  return model;
}

AdamOptions adam_options(const TrainConfig& train) {
  return {.beta1 = train.betas[0], .beta2 = train.betas[1], .eps = train.eps, .weight_decay = train.weight_decay};
}

// Rank 0 creates or opens the folder and sends its path to the other workers.
RunFolder open_folder(const RunConfig& config, const TrainerOptions& options, const Workers& workers) {
  if (!workers.is_rank0()) return RunFolder::for_reading(workers.exchange().front());
  RunFolder folder = options.resume_folder.empty() ? RunFolder(config.io, run_id_of(config.io, options.job_id, std::chrono::system_clock::now()))
                                                   : RunFolder(options.resume_folder);
  workers.exchange(folder.path());
  return folder;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, const DatasetRegistry& datasets, TrainerOptions options) try
    : config_(with_precision(checked(config), options.device)),
      options_(std::move(options)),
      collective_(open_collective(options_.communicator, options_.device, [this](const std::string& note) { collective_note_ = note; })),
      workers_(options_.communicator, collective_.get()),
      free_bytes_(runtime_of(options_.device.kind).memory(options_.device.index).free_bytes),
      data_(std::make_unique<TrainingData>(config_, datasets, workers_)),
      schedule_(config.train, config.input_seq_len, workers_.size(), data_->epoch_micro_steps()),
      validation_points_(spread_points(config.io.validate_amount, schedule_.micro_steps())),
      logging_points_(spread_points(config.io.log_train_loss_amount, schedule_.micro_steps())) {
  if (options_.hooks.learning_rate) schedule_.replace_learning_rate(options_.hooks.learning_rate);
  const std::optional<CheckpointFile> start = open_start(config_, options_);
  model_ = make_model(config_, start, options_.device);
  runner_ = std::make_unique<StepRunner>(*model_, config_.train.gradient_accumulate_every * workers_.size(),
                                         UpdateOptions{.adam = adam_options(config_.train),
                                                       .gradient = {.clip = config_.train.gradient_clipping.value_or(0),
                                                                    .stop_after_nonfinite = config_.train.on_nonfinite == "stop"}},
                                         config_.train.cuda_graphs, options_.hooks);

  // Writes nothing before all workers have opened their data and models.
  check_consistent(workers_, config_, data_->train().size(0));
  if (options_.dry_run) {
    if (workers_.is_rank0()) RunFolder::check_available(config_.io, run_id_of(config_.io, options_.job_id, std::chrono::system_clock::now()));
    return;
  }
  folder_ = std::make_unique<RunFolder>(open_folder(config_, options_, workers_));
  const DeviceInfo device = info_of(options_.device);
  RunSummary summary{.parameter_count = model_->parameters().count(),
                     .num_workers = workers_.size(),
                     .devices = workers_.exchange(concat_text(options_.device, ": ", device.description))};

  best_ = std::make_unique<BestCheckpoints>(folder_->checkpoints(), config_.io.num_models_to_save,
                                            [this](const std::string& warning) { recorder_->warn(warning); });
  recorder_ = std::make_unique<Recorder>(config_, options_.callbacks, options_.hooks, workers_, state_, *best_, *folder_, device, std::move(summary));
  steps_ = std::make_unique<TrainingSteps>(config_, schedule_, workers_, *model_, *runner_, *recorder_);
  checkpointer_ = std::make_unique<Checkpointer>(config_, options_.hooks, schedule_, workers_, *data_, *model_, *steps_, *folder_, *best_, *recorder_);
  sync_ = std::make_unique<WorkerSync>(workers_, options_.callbacks.should_stop, config_.train.save_state_every);

  if (workers_.is_rank0()) options_.resume_folder.empty() ? begin(start) : resume();
  for (const std::string& warning : folder_->warnings()) recorder_->warn(warning);
  for (const std::string& warning : data_->warnings()) recorder_->warn(warning);
  if (!collective_note_.empty()) recorder_->log(collective_note_);
  if (!workers_.is_alone()) {
    state_ = workers_.exchange_values(state_).front();
    schedule_.keep_warmup(workers_.exchange_values(schedule_.warmup_steps()).front());
    steps_->share_from_rank0();
  }
} catch (const std::exception& error) {
  Workers(options.communicator).fail(error);
}

Trainer::~Trainer() = default;

std::vector<std::string> Trainer::describe() const {
  return header_lines({.config = config_,
                       .model = *model_,
                       .data = *data_,
                       .schedule = schedule_,
                       .state = state_,
                       .device = options_.device,
                       .device_description = info_of(options_.device).description,
                       .workers = workers_.size(),
                       .free_bytes = free_bytes_,
                       .folder = folder_ ? folder_->path() : RunFolder::path_for(config_.io, run_id_of(config_.io, options_.job_id, std::chrono::system_clock::now()))});
}

// Starts a new run. Rank 0 only.
void Trainer::begin(const std::optional<CheckpointFile>& start) {
  try {
    if (config_.resume) start_from_checkpoint(start);
    recorder_->write_config();
    for (const std::string& line : describe()) recorder_->log(line);
  } catch (const std::exception& error) {
    recorder_->note_error(error.what());
    throw;
  }
}

// Starts from a checkpoint as the Python package does: continues at a place in the data with the weights, which the model already
// has. The checkpoint is the first candidate for the best model. Saves a state at once: a resumed run does not read the checkpoint again.
void Trainer::start_from_checkpoint(const std::optional<CheckpointFile>& start) {
  state_ = data_->state_at(config_.resume->next_epoch_index, config_.resume->next_batch_index);
  if (start) recorder_->log(concat_text("starts from ", config_.resume->checkpoint_file, " at epoch ", state_.epoch, ", batch ", state_.batch));
  if (start && start->loss) checkpointer_->save_if_best(*start->loss, state_);
  checkpointer_->save_state(state_);
}

// Resumes a run. Rank 0 only.
void Trainer::resume() {
  state_ = checkpointer_->restore(options_.accept_changed_data);
  recorder_->write_config();
  for (const std::string& line : describe()) recorder_->log(line);
}

TrainingResult Trainer::run() {
  require(folder_ != nullptr, "train: cannot run after a dry run");
  recorder_->begin_training();
  const std::int64_t bytes = config_.train.batch_size * config_.input_seq_len * workers_.size();  // of a micro-step
  progress_.emplace(options_.callbacks, schedule_, state_, bytes);
  row_speed_.emplace(bytes, state_.micro_step, shortest_speed_seconds);
  hints_.emplace(config_, schedule_, data_->train().parts().loss_mask || options_.hooks.loss);
  sync_->restart_save_interval();
  runner_->set_micro_step(state_.cumulative_batch());
  TrainingResult result;
  try {
    workers_.together([&] {
      loop();
      finish(result);
      recorder_->end_training();
      recorder_->write_config();
    });
  } catch (const std::exception& error) {
    recorder_->note_error(error.what());
    throw;
  }
  result.folder = folder_->path();
  result.stopped = sync_->stopped();
  result.ended_early = ended_early();
  result.state = state_;
  return result;
}

void Trainer::loop() {
  if (state_.validation_due != 0) validate();  // the run was stopped during this validation
  Prefetcher batches(data_->train(), config_.model, data_->places(state_, schedule_.micro_steps() - state_.micro_step));
  while (!is_over() && !sync_->must_stop()) {
    if (sync_->save_is_due()) save_state();
    const std::int64_t index = state_.micro_step;
    const Batch batch = batches.next().value();
    if (!batch.has_loss) sync_->report_batch_without_loss();
    const Tensor loss = steps_->micro_step(batch, state_);
    if (contains(logging_points_, index)) add_training_row(loss.item());
    if ((index + 1) % config_.train.gradient_accumulate_every == 0) optimizer_step();
    if (sync_->take_batch_without_loss()) warn_of_training_batch_without_loss();
    data_->advance(state_);
    if (contains(validation_points_, index)) validate();
    if (workers_.is_rank0() && progress_->is_due(is_over())) progress_->report(state_, loss.item());
  }
  recorder_->log(concat_text("waited ", std::round(batches.waited_seconds() * 1e3) / 1e3, " s for data"));
  recorder_->write_pending_rows();
  save_state();
  give_hints();
}

// A run that a hook ends completes its group of micro-steps: a state within a group has only the gradients of the first worker.
bool Trainer::is_over() const {
  return state_.micro_step == schedule_.micro_steps() || (ended_early() && state_.micro_step % config_.train.gradient_accumulate_every == 0);
}

// The state is brought up to date first, so that a row does not depend on when the run was saved.
void Trainer::add_training_row(double loss) {
  steps_->finish_steps(state_);
  recorder_->add_training_loss(loss, schedule_.learning_rate(state_.steps), row_speed_->take(state_.micro_step + 1));
}

void Trainer::give_hints() {
  for (const std::string& hint : hints_->take(state_)) recorder_->warn(hint);
}

// Excludes time from the speeds that are reported.
void Trainer::leave_out(double seconds) {
  progress_->leave_out(seconds);
  row_speed_->leave_out(seconds);
}

void Trainer::optimizer_step() {
  recorder_->write_pending_rows();
  sync_->sync_step();
  steps_->optimizer_step(state_);
  give_hints();
  // Only if the next row of loss.csv reports this step.
  const auto next = std::upper_bound(logging_points_.begin(), logging_points_.end(), state_.micro_step);
  if (next != logging_points_.end() && *next <= state_.micro_step + config_.train.gradient_accumulate_every) steps_->measure_gradient(state_);
}

void Trainer::save_state() {
  steps_->finish_steps(state_);
  workers_.on_rank0([this] { checkpointer_->save_state(state_); });
  sync_->restart_save_interval();
}

void Trainer::warn_of_training_batch_without_loss() {
  recorder_->warn(concat_text("micro-step ", state_.micro_step + 1, workers_.is_alone() ? "" : " or before", ": a training batch has no byte that counts in the loss (",
                              config_.model.is_masked() ? "none is masked" : "all are padding", "), its loss is 0"));
}

// Validates after the last micro-step. If the validation is stopped, the state only records that it is due.
void Trainer::validate() {
  steps_->finish_steps(state_);
  recorder_->write_pending_rows();
  state_.validation_due = 1;
  const Evaluation evaluation = evaluate_split(data_->validation(), Split::Validation);
  if (evaluation.stopped) return;
  state_.validation_due = 0;
  if (!evaluation.has_loss()) {  // there is nothing to compare models by
    recorder_->write_config();
    return;
  }
  recorder_->write_validation(evaluation);
  const double loss = evaluation.mean_batch_loss();
  require(std::isfinite(loss) || config_.train.on_nonfinite == "skip", "train: validation after micro-step ", state_.micro_step,
          ": expected a finite loss, got ", loss);
  workers_.on_rank0([&] {
    if (!std::isfinite(loss)) return;
    checkpointer_->save_if_best(loss, state_);
    const Clock::time_point start = Clock::now();
    recorder_->log_sample(*model_, data_->validation());
    leave_out(seconds_since(start));
  });
  ask_to_end(evaluation);
  recorder_->write_config();
}

// Rank 0 decides for all workers.
void Trainer::ask_to_end(const Evaluation& evaluation) {
  const double loss = evaluation.mean_batch_loss();
  if (!std::isfinite(loss)) return;
  if (++state_.validations == 1 || loss < state_.best_validation_loss) {
    state_.best_validation = state_.validations;
    state_.best_validation_loss = loss;
  }
  if (!options_.hooks.end_run || ended_early()) return;
  const ValidationReport report{.evaluation = evaluation,
                                .loss = loss,
                                .best_loss = state_.best_validation_loss,
                                .validations = state_.validations,
                                .since_best = state_.validations - state_.best_validation,
                                .step = state_.steps,
                                .micro_step = state_.micro_step};
  if (!workers_.any(workers_.is_rank0() && options_.hooks.end_run(report))) return;
  state_.ended_length = schedule_.micro_steps();
  recorder_->log(concat_text("a hook ends the run after micro-step ", state_.micro_step, " of ", schedule_.micro_steps()));
}

Evaluation Trainer::evaluate_split(const Dataset& dataset, Split split) {
  EvaluationOptions options{.batch_size = config_.train.batch_size, .loss = options_.hooks.loss, .workers = workers_};
  // Several workers can stop only between groups of micro-batches, see WorkerSync.
  if (workers_.is_alone() || state_.micro_step % config_.train.gradient_accumulate_every == 0)
    options.should_stop = [this] { return sync_->wants_to_stop(); };
  if (config_.train.max_eval_steps.value_or(0) > 0) options.max_batches = *config_.train.max_eval_steps;
  if (config_.train.shuffle_eval && split == Split::Validation)
    options.shuffle =
        RandomKey{static_cast<std::uint64_t>(config_.train.seed), site_of("shuffle_eval"), static_cast<std::uint32_t>(state_.cumulative_batch())};
  const Clock::time_point start = Clock::now();
  const Evaluation result = evaluate(*model_, dataset, options);
  const double seconds = seconds_since(start);
  leave_out(seconds);
  if (result.stopped)
    sync_->stop();
  else
    recorder_->write_evaluation_time(split, seconds);
  if (result.empty_batches > 0 && !std::exchange(warned_of_evaluation_, true))
    recorder_->warn(concat_text(result.empty_batches, " of ", result.batches, " ", name_of(split), " batches have no byte that counts in the loss (",
                                config_.model.is_masked() ? "none is masked" : "all are padding", "); ",
                                result.has_loss() ? "the mean excludes them" : concat_text("there is no ", name_of(split), " loss")));
  return result;
}

// Saves the last model, then loads the best model and tests it.
void Trainer::finish(TrainingResult& result) {
  workers_.on_rank0([this] { checkpointer_->save_last(state_); });
  if (!best_->list().empty()) result.validation_loss = best_->list().front().loss;
  result.validation_loss = workers_.exchange_values(result.validation_loss).front();
  if (sync_->stopped()) {
    recorder_->log(concat_text("stopped after micro-step ", state_.micro_step, " of ", schedule_.micro_steps()));
    return;
  }
  checkpointer_->load_best();
  if (data_->test() == nullptr) return;
  const Evaluation evaluation = evaluate_split(*data_->test(), Split::Test);
  if (evaluation.stopped || !evaluation.has_loss()) return;
  result.test_loss = evaluation.mean_batch_loss();
  recorder_->write_test(evaluation);
}

}  // namespace mblm
