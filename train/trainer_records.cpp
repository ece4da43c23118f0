// What a run writes into its folder and tells its caller.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "engine/pool.h"
#include "train/sample_text.h"
#include "train/trainer.h"

namespace mblm {

void Trainer::log(const std::string& line) {
  if (!workers_.is_first()) return;
  folder_.log(line);
  if (options_.callbacks.on_log) options_.callbacks.on_log(line);
}

void Trainer::warn(const std::string& warning) {
  log("warning: " + warning);
  if (workers_.is_first() && options_.callbacks.on_warning) options_.callbacks.on_warning(warning);
}

// Splits may share their files: each line is told once.
void Trainer::warn_of_data() {
  std::set<std::string> told;
  for (const auto* split : {&data_.train, &data_.validation, &data_.test}) {
    if (*split == nullptr) continue;
    for (const std::string& warning : (*split)->warnings())
      if (told.insert(warning).second) warn(warning);
  }
}

// What the model writes now, for the eye: a function of the seed and the micro-step. It costs no more than a forward pass of a
// micro-batch, and takes no part in anything else: no error of it ends a run.
void Trainer::log_sample() {
  const auto start = std::chrono::steady_clock::now();
  const RandomKey key{static_cast<std::uint64_t>(config_.train.seed), site_of("log_sample"), static_cast<std::uint32_t>(cumulative_batch())};
  std::string text;
  try {
    text = sample_text(*model_, *data_.validation, key, config_.train.batch_size * config_.input_seq_len);
  } catch (const std::exception& error) {
    text = concat_text("none, ", error.what());
  }
  log(concat_text("micro-step ", state_.micro_step, ": sample ", text));
  clock_->leave_out(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

// The place of the micro-step that was just done.
LossRow Trainer::training_row() const {
  return {.timestamp = format_now(),
          .elements_seen = state_.elements,
          .epoch = state_.epoch,
          .batch = state_.batch,
          .cum_batch = cumulative_batch(),
          .lr = schedule_.learning_rate(state_.steps),
          .avg_grad = state_.avg_grad,
          .avg_grad_clipped = state_.avg_grad_clipped};
}

// The workers that have rows of their own, in order.
std::vector<int> Trainer::logged_ranks() const {
  const std::vector<std::int64_t>& wanted = config_.io.enabled_loss_log_for_gpus;
  std::vector<int> ranks;
  for (int rank = 0; rank < workers_.size(); ++rank)
    if (std::find(wanted.begin(), wanted.end(), rank) != wanted.end()) ranks.push_back(rank);
  return ranks;
}

// All workers have rows of the same micro-steps, which differ in the loss alone.
void Trainer::write_pending_rows() {
  if (pending_rows_.empty()) return;
  std::vector<double> own;
  for (const LossRow& row : pending_rows_) own.push_back(row.loss);
  const std::vector<std::vector<double>> losses = workers_.exchange_lists(own);
  for (std::size_t i = 0; i < own.size(); ++i) {
    for (const int rank : logged_ranks()) {
      pending_rows_[i].gpu_rank = rank;
      pending_rows_[i].loss = losses[static_cast<std::size_t>(rank)][i];
      folder_.write(pending_rows_[i]);
    }
  }
  pending_rows_.clear();
}

// A row of what all workers have in common.
void Trainer::write_row(LossRow row) {
  row.timestamp = format_now();
  for (const int rank : logged_ranks()) {
    row.gpu_rank = rank;
    folder_.write(row);
  }
}

void Trainer::write_row(TimeMemoryRow row) {
  const auto gibibytes = [](std::size_t bytes) { return std::round(static_cast<double>(bytes) / (1 << 30) * 1000) / 1000; };
  const PoolStatistics memory = current_pool(options_.device)->statistics();
  row.allocated = gibibytes(memory.used_bytes);
  row.allocated_max = gibibytes(memory.peak_used_bytes);
  row.reserved = gibibytes(memory.held_bytes);
  row.reserved_max = gibibytes(memory.peak_held_bytes);
  row.total = gibibytes(device_memory_);
  folder_.write(row);
}

// `resume` says where to go on, so that the file is a config that continues the run.
void Trainer::write_config() {
  RunConfig config = config_;
  ResumeConfig& resume = config.resume.emplace();
  if (!best_.list().empty()) resume.checkpoint_file = best_.path_of(best_.list().front()).string();
  resume.next_epoch_index = state_.epoch;
  resume.next_batch_index = state_.batch;
  if (config_.resume && !config_.resume->checkpoint_file.empty()) resume.resumed_from = config_.resume->checkpoint_file;
  folder_.write_config(config, summary_);
}

// What is thrown is the error itself: that it cannot be noted (a full disk, say) is no news.
void Trainer::note_error(const char* message) noexcept {
  try {
    summary_.error = message;
    summary_.training_end = format_now('T');
    folder_.log(concat_text("error: ", message));
    write_config();
  } catch (const std::exception&) {
  }
}

void Trainer::report_progress(const Tensor& loss) {
  const bool last = state_.micro_step == schedule_.micro_steps();
  if (!workers_.is_first() || !options_.callbacks.on_progress || !(last || clock_->due())) return;
  TrainingProgress progress{.step = state_.steps,
                            .steps = schedule_.steps(),
                            .micro_step = state_.micro_step,
                            .micro_steps = schedule_.micro_steps(),
                            .loss = loss.item(),
                            .learning_rate = schedule_.learning_rate(state_.steps)};
  progress.bits_per_byte = progress.loss / std::numbers::ln2;
  if (steps_.has_outcome()) progress.gradient_norm = steps_.last_outcome().gradient_norm;
  clock_->report(progress, config_.train.batch_size * config_.input_seq_len * workers_.size());
  options_.callbacks.on_progress(progress);
}

}  // namespace mblm
