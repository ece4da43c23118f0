#include "train/recorder.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include "engine/pool.h"
#include "train/sample_text.h"

namespace mblm {
namespace {

std::string_view csv_kind(Split split) {
  constexpr std::string_view kinds[] = {"train", "valid", "test"};
  return kinds[static_cast<int>(split)];
}

// A path that does not depend on the folder from which the program runs. Data sets can also use text that is not a path.
std::string absolute_if_exists(const std::string& path) {
  std::error_code error;
  if (path.empty() || !std::filesystem::exists(path, error)) return path;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

// `, 12 of 100 answers correct`, or nothing without answers.
std::string answers_text(const Evaluation& evaluation) {
  const AnswerScore all = evaluation.all_answers();
  return all.answers == 0 ? "" : concat_text(", ", all.correct, " of ", all.answers, " answers correct");
}

}  // namespace

Recorder::Recorder(const RunConfig& config, const TrainerCallbacks& callbacks, const TrainerHooks& hooks, const Workers& workers, const TrainingState& state,
                   const BestCheckpoints& best, RunFolder& folder, const DeviceInfo& device, RunSummary summary)
    : config_(config),
      callbacks_(callbacks),
      hooks_(hooks),
      workers_(workers),
      state_(state),
      best_(best),
      folder_(folder),
      device_(device),
      summary_(std::move(summary)) {}

void Recorder::log(const std::string& line) {
  if (!workers_.is_rank0()) return;
  folder_.log(line);
  if (callbacks_.on_log) callbacks_.on_log(line);
}

void Recorder::warn(const std::string& warning) {
  log("warning: " + warning);
  if (workers_.is_rank0() && callbacks_.on_warning) callbacks_.on_warning(warning);
}

// Logs an error instead of throwing it, since a sample is only informative.
void Recorder::log_sample(const Model& model, const Dataset& dataset) {
  const RandomKey key{static_cast<std::uint64_t>(config_.train.seed), site_of("log_sample"), static_cast<std::uint32_t>(state_.cumulative_batch())};
  std::string text;
  try {
    text = sample_text(model, dataset, key, config_.train.batch_size * config_.input_seq_len);
  } catch (const std::exception& error) {
    text = concat_text("failed: ", error.what());
  }
  log(concat_text("micro-step ", state_.micro_step, ": sample ", text));
}

// The ranks of the workers with rows in loss.csv (io.enabled_loss_log_for_gpus), in order.
std::vector<int> Recorder::logged_ranks() const {
  const std::vector<std::int64_t>& wanted = config_.io.enabled_loss_log_for_gpus;
  std::vector<int> ranks;
  for (int rank = 0; rank < workers_.size(); ++rank)
    if (std::find(wanted.begin(), wanted.end(), rank) != wanted.end()) ranks.push_back(rank);
  return ranks;
}

void Recorder::add_training_loss(double loss, double learning_rate, std::optional<double> bytes_per_second) {
  const std::optional<double> smoothed = state_.loss_average.value();
  const LossRow row{.timestamp = format_now(),
                    .elements_seen = state_.elements,
                    .kind = "train",
                    .epoch = state_.epoch,
                    .batch = state_.batch,
                    .cum_batch = state_.cumulative_batch(),
                    .loss = loss,
                    .lr = learning_rate,
                    .avg_grad = state_.avg_grad,
                    .avg_grad_clipped = state_.avg_grad_clipped,
                    .grad_norm = state_.gradient_norm,
                    .bytes_per_second = bytes_per_second.value_or(-1),
                    .smoothed_loss = smoothed.value_or(-1)};
  pending_rows_.push_back(row);
  if (workers_.is_alone()) write_pending_rows();
  std::string text = concat_text("micro-step ", state_.micro_step + 1, ": training loss ", shortest_text(loss));
  if (smoothed) text += concat_text(", smoothed ", shortest_text(*smoothed), ", gradient norm ", shortest_text(state_.gradient_norm));
  text += concat_text(", learning rate ", shortest_text(learning_rate));
  if (bytes_per_second) text += concat_text(", ", std::llround(*bytes_per_second), " bytes per second");
  log(text);
  write_metrics(row);
}

// The pending rows of all workers belong to the same micro-steps and differ only in the loss.
void Recorder::write_pending_rows() {
  if (pending_rows_.empty()) return;
  std::vector<double> own;
  for (const LossRow& row : pending_rows_) own.push_back(row.loss);
  const std::vector<std::vector<double>> losses = workers_.exchange_lists(own);
  for (std::size_t i = 0; i < own.size(); ++i) {
    for (const int rank : logged_ranks()) {
      pending_rows_[i].gpu_rank = rank;
      pending_rows_[i].loss = losses[static_cast<std::size_t>(rank)][i];
      write_to_table(pending_rows_[i]);
    }
    pending_rows_[i].loss = losses.front()[i];
    write_events(pending_rows_[i]);
  }
  pending_rows_.clear();
}

// The row has the epoch and batch of the last micro-step.
void Recorder::write_validation(const Evaluation& evaluation) {
  const double loss = evaluation.mean_batch_loss();
  const LossRow row{.timestamp = format_now(),
                    .elements_seen = state_.elements,
                    .kind = "valid",
                    .epoch = state_.done_epoch,
                    .batch = state_.done_batch,
                    .cum_batch = state_.cumulative_batch() - 1,
                    .loss = loss};
  write_row(row);
  // A loss of the program's own has no bits per byte.
  const std::string bits = hooks_.loss ? concat_text(", ", shortest_text(evaluation.bits_per_byte()), " bits per byte") : "";
  log(concat_text("micro-step ", state_.micro_step, ": validation loss ", shortest_text(loss), bits, answers_text(evaluation)));
  write_metrics(row);
}

void Recorder::write_test(const Evaluation& evaluation) {
  const double loss = evaluation.mean_batch_loss();
  write_row(LossRow{.kind = "test", .loss = loss});
  log(concat_text("test loss ", shortest_text(loss), answers_text(evaluation)));
}

// Writes the same row for each logged worker.
void Recorder::write_row(LossRow row) {
  if (row.timestamp.empty()) row.timestamp = format_now();
  write_events(row);
  for (const int rank : logged_ranks()) {
    row.gpu_rank = rank;
    write_to_table(row);
  }
}

void Recorder::write_to_table(const LossRow& row) {
  folder_.write(row);
  if (workers_.is_rank0() && hooks_.on_row) hooks_.on_row(row);
}

// Asks for the metrics when the row is made: with several workers it is written later.
void Recorder::write_metrics(const LossRow& row) {
  if (!workers_.is_rank0() || !hooks_.metrics) return;
  std::string text;
  std::vector<EventScalar> scalars;
  for (const auto& [name, value] : hooks_.metrics(row)) {
    text += concat_text(text.empty() ? ": " : ", ", name, " ", shortest_text(value));
    scalars.push_back({name, value});
  }
  if (scalars.empty()) return;
  log(concat_text("micro-step ", state_.micro_step + (row.kind == "train"), text));
  if (events_ != nullptr) events_->write(row.cum_batch, scalars);
}

void Recorder::write_training_time(double forward_seconds, double backward_seconds) {
  write_row(TimeMemoryRow{.cum_batch = state_.cumulative_batch(),
                          .num_items = config_.train.batch_size,
                          .kind = "train",
                          .fw_time = forward_seconds,
                          .bw_time = backward_seconds});
}

void Recorder::write_evaluation_time(Split split, double seconds) {
  TimeMemoryRow row{.num_items = -1, .kind = csv_kind(split), .fw_time = seconds};
  if (split == Split::Validation) {
    row.cum_batch = state_.cumulative_batch() - 1;  // of the last micro-step
    row.num_items = state_.elements;
  }
  write_row(row);
}

void Recorder::write_row(TimeMemoryRow row) {
  const auto gibibytes = [](std::size_t bytes) { return std::round(static_cast<double>(bytes) / (1 << 30) * 1000) / 1000; };
  const PoolStatistics memory = device_statistics(device_.device);
  row.allocated = gibibytes(memory.used_bytes);
  row.allocated_max = gibibytes(memory.peak_used_bytes);
  row.reserved = gibibytes(memory.held_bytes);
  row.reserved_max = gibibytes(memory.peak_held_bytes);
  row.total = gibibytes(device_.memory_bytes);
  folder_.write(row);
}

void Recorder::write_config() {
  RunConfig config = config_;
  config.io.dataset_dir = absolute_if_exists(config.io.dataset_dir);
  if (config.resume) config.resume->checkpoint_file = absolute_if_exists(config.resume->checkpoint_file);
  RunSummary summary = summary_;
  if (!best_.list().empty()) summary.best_checkpoint = absolute_if_exists(best_.path_of(best_.list().front()).string());
  summary.next_epoch_index = state_.epoch;
  summary.next_batch_index = state_.batch;
  folder_.write_config(config, summary);
}

void Recorder::begin_training() {
  summary_.training_start = format_now('T');
  if (workers_.is_rank0() && config_.io.tensorboard) events_ = std::make_unique<EventFile>(folder_.path() / "tensorboard", state_.cumulative_batch());
}

// Columns without a value (-1) are left out.
void Recorder::write_events(const LossRow& row) {
  if (events_ == nullptr) return;
  const std::int64_t step = row.cum_batch >= 0 ? row.cum_batch : state_.cumulative_batch() - 1;
  std::vector<EventScalar> scalars{{concat_text("loss/", row.kind == "valid" ? "validation" : row.kind == "test" ? "test" : "training"), row.loss}};
  const auto add = [&](const char* tag, double value) {
    if (!(value < 0)) scalars.push_back({tag, value});
  };
  add("loss/training_smoothed", row.smoothed_loss);
  add("learning_rate", row.lr);
  add("gradient_norm", row.grad_norm);
  add("bytes_per_second", row.bytes_per_second);
  events_->write(step, scalars);
}

void Recorder::end_training() { summary_.training_end = format_now('T'); }

void Recorder::note_error(const char* message) noexcept {
  try {
    summary_.error = message;
    end_training();
    folder_.log(concat_text("error: ", message));
    write_config();
  } catch (const std::exception&) {
  }
}

}  // namespace mblm
