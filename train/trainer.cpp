#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mblm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t timed_micro_steps = 30;  // whose times and memory go to timemem.csv

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool contains(const std::vector<std::int64_t>& points, std::int64_t point) { return std::binary_search(points.begin(), points.end(), point); }

DeviceInfo info_of(Device device) {
  for (const DeviceInfo& info : available_devices())
    if (info.device == device) return info;
  return {device, concat_text(device), 0};
}

std::string_view csv_kind(Split split) {
  constexpr std::string_view kinds[] = {"train", "valid", "test"};
  return kinds[static_cast<int>(split)];
}

// `, 12 of 100 answers right` where there are answers.
std::string answers_text(const Evaluation& evaluation) {
  const AnswerScore all = evaluation.all_answers();
  return all.answers == 0 ? "" : concat_text(", ", all.correct, " of ", all.answers, " answers right");
}

const RunConfig& checked(const RunConfig& config) {
  check_run_config(config);
  return config;
}

// The precision is written down: a run that goes on elsewhere keeps it.
RunConfig with_precision(RunConfig config, Device device) {
  config.train.precision = name_of(precision_named(config.train.precision, device));
  return config;
}

}  // namespace

Trainer::Data Trainer::open_data(const RunConfig& config, const DatasetRegistry& datasets, const Workers& workers) {
  const auto open = [&](Split split) {
    const bool is_shared = split == Split::Train;
    return datasets.make(config.io.dataset_id, {.path = config.io.dataset_dir,
                                                .arguments = config.io.dataset_args,
                                                .split = split,
                                                .length = config.input_seq_len,
                                                .num_tokens = config.model.num_tokens,
                                                .pad_token_id = config.model.pad_token_id,
                                                .masking = masking_of(config),
                                                .seed = static_cast<std::uint64_t>(config.train.seed),
                                                .worker = is_shared ? workers.rank() : 0,
                                                .workers = is_shared ? workers.size() : 1});
  };
  Data data{open(Split::Train), open(Split::Validation), open(Split::Test)};
  require<ConfigError>(data.train->parts().labels == config.model.is_masked(), "io.dataset_id: expected a data set with",
                       config.model.is_masked() ? "" : "out", " masks, such as ", config.model.is_masked() ? "pg19masked" : "pg19", ", got ",
                       config.io.dataset_id);
  require<FileError>(data.train->size(0) >= config.train.batch_size, config.io.dataset_dir, ": expected at least ", config.train.batch_size,
                     " sequences of ", config.input_seq_len, " for one batch of training, found ", data.train->size(0));
  if (config.resume) {
    const std::int64_t batches = data.train->size(config.resume->next_epoch_index) / config.train.batch_size;
    require<ConfigError>(config.resume->next_batch_index <= batches, "resume.next_batch_index: expected at most ", batches,
                         ", the batches of the epoch, got ", config.resume->next_batch_index);
  }
  return data;
}

Trainer::Trainer(const RunConfig& config, const DatasetRegistry& datasets, TrainerOptions options) try
    : config_(with_precision(checked(config), options.device)),
      options_(std::move(options)),
      workers_(options_.communicator),
      schedule_(config.train, config.input_seq_len, workers_.size()),
      validation_points_(spread_points(config.io.validate_amount, schedule_.micro_steps())),
      logging_points_(spread_points(config.io.log_train_loss_amount, schedule_.micro_steps())),
      data_(open_data(config, datasets, workers_)),
      start_(open_start(config, options_)),
      model_(make_model(config_, start_, options_.device)),
      steps_(*model_, config.train.gradient_accumulate_every * workers_.size(), config.train.gradient_clipping.value_or(0)),
      folder_(open_folder()),
      best_(folder_.checkpoints(), config.io.num_models_to_save),
      states_(folder_.states()) {
  summary_.parameter_count = model_->parameters().count();
  summary_.num_workers = workers_.size();
  const DeviceInfo device = info_of(options_.device);
  summary_.devices = workers_.exchange(concat_text(options_.device, ": ", device.description));
  device_memory_ = device.memory_bytes;
  if (workers_.is_first()) options_.resume_folder.empty() ? begin() : go_on();
  warn_of_data();
  share_start();
} catch (const std::exception& error) {
  Workers(options.communicator).fail(error);
}

void Trainer::begin() {
  try {
    if (config_.resume) start_from_checkpoint();
    write_config();
    for (const std::string& field : fields_not_acting(config_)) log("not yet acting: " + field);
    log(concat_text(summary_.parameter_count, " parameters; ", schedule_.micro_steps(), " micro-steps, ", schedule_.steps(), " optimizer steps, ",
                    schedule_.warmup_steps(), " of them warm-up"));
  } catch (const std::exception& error) {
    note_error(error.what());
    throw;
  }
}

std::optional<CheckpointFile> Trainer::open_start(const RunConfig& config, const TrainerOptions& options) {
  if (!config.resume || config.resume->checkpoint_file.empty() || !options.resume_folder.empty()) return {};
  return open_checkpoint(config.resume->checkpoint_file, config.resume->rename_modules ? options.rename_modules : Renames());
}

// The weights of `resume.checkpoint_file`, all of them. (With `migrate_embeddings` the Python package takes over only those
// of the vocabulary and forgets the rest.)
std::unique_ptr<Model> Trainer::make_model(const RunConfig& config, const std::optional<CheckpointFile>& start, Device device) {
  auto model = std::make_unique<Model>(config.model);
  model->allocate(device, precision_named(config.train.precision, device));
  model->initialize(static_cast<std::uint64_t>(config.train.seed));
  if (start) load_parameters(*model, *start, {.extend_embeddings = config.resume->migrate_embeddings});
  return model;
}

// The Python package's way: the weights, which the model has already, and the place in the data. They are the first candidate
// for the best. The state is saved before there is a config.yaml, which does not tell for long where the run began.
void Trainer::start_from_checkpoint() {
  const ResumeConfig& resume = *config_.resume;
  const std::int64_t batches = batches_in_epoch(resume.next_epoch_index);
  state_.epoch = resume.next_epoch_index;
  state_.batch = resume.next_batch_index;
  first_batch_ = batches * state_.epoch + state_.batch;
  skip_empty_epochs(state_.epoch, state_.batch);
  if (start_) log(concat_text("starts from ", resume.checkpoint_file, " at epoch ", state_.epoch, ", batch ", state_.batch));
  if (start_ && start_->loss) save_if_best(*start_->loss);
  start_.reset();
  write_state();
}

TrainingResult Trainer::run() {
  summary_.training_start = format_now('T');
  clock_.emplace(options_.callbacks.progress_interval, state_.micro_step);
  state_saved_ = Clock::now();
  TrainingResult result;
  try {
    workers_.together([&] {
      loop();
      finish(result);
      summary_.training_end = format_now('T');
      write_config();
    });
  } catch (const std::exception& error) {
    note_error(error.what());
    throw;
  }
  result.folder = folder_.path();
  result.stopped = stopped_;
  result.state = state_;
  return result;
}

void Trainer::loop() {
  if (state_.validation_due != 0) validate();  // it was stopped half-way
  Prefetcher batches(*data_.train, config_.model, places());
  while (state_.micro_step < schedule_.micro_steps() && !asked_to_stop()) {
    if (state_is_due()) save_state();
    const std::int64_t index = state_.micro_step;
    const Tensor loss = micro_step(batches);
    if (contains(logging_points_, index)) {
      pending_rows_.push_back(training_row().with_loss("train", loss.item()));
      if (workers_.is_alone()) write_pending_rows();
      log(concat_text("micro-step ", index + 1, ": training loss ", shortest_text(loss.item())));
    }
    if ((index + 1) % config_.train.gradient_accumulate_every == 0) optimizer_step();
    advance();
    if (contains(validation_points_, index)) validate();
    report_progress(loss);
  }
  log(concat_text("waited ", std::round(batches.waited_seconds() * 1e3) / 1e3, " s for data"));
  write_pending_rows();
  save_state();
}

bool Trainer::wants_to_stop() const { return options_.callbacks.should_stop && options_.callbacks.should_stop(); }

bool Trainer::asked_to_stop() {
  if (workers_.is_alone()) stopped_ = stopped_ || wants_to_stop();
  return stopped_;
}

// The next batch, whose place (epoch, batch) is then that of the state.
Tensor Trainer::micro_step(Prefetcher& batches) {
  const std::uint64_t seed = static_cast<std::uint64_t>(config_.train.seed);
  const Batch batch = batches.next().value();
  const ForwardContext context{.training = true,
                               .seed = seed,
                               .micro_step = static_cast<std::uint32_t>(cumulative_batch()),
                               .first_sequence = workers_.rank() * config_.train.batch_size};
  const Tensor loss = state_.micro_step < timed_micro_steps ? timed_micro_step(batch, context) : steps_.micro_step(batch, context);
  state_.elements += elements_per_batch(config_.train, config_.input_seq_len);
  return loss;
}

// A row of timemem.csv too: the time of each half, which makes the host wait for the device.
Tensor Trainer::timed_micro_step(const Batch& batch, const ForwardContext& context) {
  const Clock::time_point start = Clock::now();
  const Tensor loss = steps_.forward(batch, context);
  loss.item();
  const double forward_seconds = seconds_since(start);
  const Clock::time_point middle = Clock::now();
  steps_.backward(loss);
  model_->parameters().gradients().slice(0, 1).item();
  write_row(TimeMemoryRow{.cum_batch = cumulative_batch(),
                          .num_items = config_.train.batch_size,
                          .kind = "train",
                          .fw_time = forward_seconds,
                          .bw_time = seconds_since(middle)});
  return loss.detach();
}

void Trainer::optimizer_step() {
  const double loss = exchange_news();
  workers_.sum(model_->parameters().gradients());
  const bool finite = steps_.optimizer_step(schedule_.learning_rate(state_.steps), loss);
  ++state_.steps;
  if (!finite) {
    const std::string message = concat_text("optimizer step ", state_.steps, " after micro-step ", state_.micro_step + 1, ": ", nonfinite_text(loss));
    require(config_.train.on_nonfinite == "skip", "train: ", message, "; the parameters are as before");
    ++state_.skipped_steps;
    log(message + "; skipped");
  }
  // These means take a pass over all gradients on the host: only when the next row of loss.csv tells of this step.
  const auto next = std::upper_bound(logging_points_.begin(), logging_points_.end(), state_.micro_step);
  if (next == logging_points_.end() || *next > state_.micro_step + config_.train.gradient_accumulate_every) return;
  state_.avg_grad = mean_gradient(model_->parameters());
  state_.avg_grad_clipped = state_.avg_grad * steps_.adam().clip_factor();
}

void Trainer::advance() {
  state_.done_epoch = state_.epoch;
  state_.done_batch = state_.batch;
  ++state_.micro_step;
  ++state_.batch;
  skip_empty_epochs(state_.epoch, state_.batch);
}

// Moves on from the end of an epoch. An epoch that leaves out its first bytes can be too short for a batch where epoch 0 is not.
void Trainer::skip_empty_epochs(std::int64_t& epoch, std::int64_t& batch) const {
  const std::int64_t first = epoch;
  while (batch >= batches_in_epoch(epoch)) {
    ++epoch;
    batch = 0;
    require(epoch - first <= config_.input_seq_len, "train: expected a batch of training data in the epochs from ", first, " on, found none");
  }
}

// The places of the micro-steps that are left. Other threads ask for them, ahead of the state.
Prefetcher::NextPlace Trainer::places() const {
  return [this, epoch = state_.epoch, batch = state_.batch, left = schedule_.micro_steps() - state_.micro_step]() mutable -> std::optional<BatchPlace> {
    if (left-- <= 0) return {};
    skip_empty_epochs(epoch, batch);
    const std::int64_t size = config_.train.batch_size;
    BatchPlace place{.epoch = epoch, .first = batch++ * size, .count = size};
    if (config_.train.shuffle_train)
      place.shuffle = RandomKey{static_cast<std::uint64_t>(config_.train.seed), site_of("shuffle"), static_cast<std::uint32_t>(epoch)};
    return place;
  };
}

Evaluation Trainer::run_evaluation(const Dataset& dataset, Split split) {
  EvaluationOptions options{.batch_size = config_.train.batch_size, .workers = workers_};
  // Within a group each of several workers has gradients of its own, which no state holds.
  if (workers_.is_alone() || state_.micro_step % config_.train.gradient_accumulate_every == 0) options.should_stop = [this] { return wants_to_stop(); };
  if (config_.train.max_eval_steps.value_or(0) > 0) options.max_batches = *config_.train.max_eval_steps;
  if (config_.train.shuffle_eval && split == Split::Validation)
    options.shuffle = RandomKey{static_cast<std::uint64_t>(config_.train.seed), site_of("shuffle_eval"), static_cast<std::uint32_t>(cumulative_batch())};
  const Clock::time_point start = Clock::now();
  const Evaluation result = evaluate(*model_, dataset, options);
  const double seconds = seconds_since(start);
  clock_->leave_out(seconds);
  stopped_ = stopped_ || result.stopped;
  if (result.stopped) return result;
  TimeMemoryRow row{.num_items = -1, .kind = csv_kind(split), .fw_time = seconds};
  if (split == Split::Validation) {
    row.cum_batch = cumulative_batch() - 1;  // of the micro-step before
    row.num_items = state_.elements;
  }
  write_row(row);
  return result;
}

// After the micro-step before. A validation that is stopped half-way leaves nothing but that it is due.
void Trainer::validate() {
  write_pending_rows();
  state_.validation_due = 1;
  const Evaluation evaluation = run_evaluation(*data_.validation, Split::Validation);
  if (evaluation.stopped) return;
  state_.validation_due = 0;
  const double loss = evaluation.mean_batch_loss();
  const LossRow place{.elements_seen = state_.elements, .epoch = state_.done_epoch, .batch = state_.done_batch, .cum_batch = cumulative_batch() - 1};
  write_row(place.with_loss("valid", loss));
  log(concat_text("micro-step ", state_.micro_step, ": validation loss ", shortest_text(loss), answers_text(evaluation)));
  require(std::isfinite(loss) || config_.train.on_nonfinite == "skip", "train: validation after micro-step ", state_.micro_step,
          ": expected a finite loss, found ", loss);
  by_first([&] {
    if (!std::isfinite(loss)) return;
    save_if_best(loss);
    log_sample();
  });
  write_config();
}

void Trainer::save_if_best(double loss) {
  best_.add({loss, cumulative_batch()}, [&](const std::filesystem::path& path) { save_model(*model_, path, {{loss_metadata_key, shortest_text(loss)}}); });
}

// The best state comes back and is tested.
void Trainer::finish(TrainingResult& result) {
  if (!best_.list().empty()) result.validation_loss = best_.list().front().loss;
  result.validation_loss = workers_.exchange_values(result.validation_loss).front();
  if (stopped_) {
    log(concat_text("stopped after micro-step ", state_.micro_step, " of ", schedule_.micro_steps()));
    return;
  }
  by_first([&] {
    best_.remove_others();
    if (best_.list().empty()) return;
    load_parameters(*model_, best_.path_of(best_.list().front()));
    log(concat_text("the best model has validation loss ", shortest_text(*result.validation_loss)));
  });
  share_parameters();
  if (data_.test == nullptr) return;
  const Evaluation evaluation = run_evaluation(*data_.test, Split::Test);
  if (evaluation.stopped) return;
  result.test_loss = evaluation.mean_batch_loss();
  write_row(LossRow{.kind = "test", .loss = *result.test_loss});
  log(concat_text("test loss ", shortest_text(*result.test_loss), answers_text(evaluation)));
}

}  // namespace mblm
