// A training run: data, schedule, steps, validation, checkpoints, logs.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "mblm/checkpoint.h"
#include "train/best_checkpoints.h"
#include "train/data/dataset.h"
#include "train/data/prefetch.h"
#include "train/evaluate.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/run_state.h"
#include "train/schedule.h"
#include "train/state_folder.h"
#include "train/step_runner.h"
#include "train/workers.h"

namespace mblm {

// Each may be empty. They are called from the thread that runs the training; of several workers only the first one tells
// anything, but each is asked whether to stop.
struct TrainerCallbacks {
  std::function<void(const TrainingProgress&)> on_progress = {};
  double progress_interval = 0.5;                       // seconds between two calls; the last micro-step is always told
  std::function<void(const std::string& line)> on_log = {};  // what train.log gets
  std::function<void(const std::string& warning)> on_warning = {};
  // Asked before each micro-step, and between the batches of a validation. Several workers are asked at each optimizer step, and in
  // validations that come after one; they stop together as soon as one of them says so.
  std::function<bool()> should_stop = {};
};

struct TrainerOptions {
  Device device = {};
  std::string job_id = {};  // names the run's folder when not empty
  std::filesystem::path resume_folder = {};  // of the run that goes on, whose config is that of read_config_of_run; empty: a new run
  Renames rename_modules = {};  // of the tensors of resume.checkpoint_file, where resume.rename_modules is set
  TrainerCallbacks callbacks = {};
  Communicator* communicator = nullptr;  // with the other workers of the run; must live as long as the trainer
};

struct TrainingResult {
  std::filesystem::path folder;
  bool stopped = false;                   // by should_stop, before the end
  TrainingState state;
  std::optional<double> validation_loss;  // of the best checkpoint
  std::optional<double> test_loss;        // at the end, where the data set has a test split
};

// With a communicator each worker has a trainer, with the same config and options. A worker has its own share of the training data;
// the gradient of a step is the mean over the workers of each one's own mean. Batches of the other splits are dealt to them. The
// first worker alone writes and reads the run's folder. What fails on one worker is thrown on all of them, as a WorkerError.
class Trainer {
 public:
  // Opens the data, makes the model and then the run's folder: what can be wrong is found before anything is written.
  // Throws ConfigError (check_run_config), FileError, MemoryError, DeviceError.
  // A run that goes on is as its last whole state says, and what it wrote after that is cut off its tables; without a state it
  // begins anew. Throws ConfigError, naming them, when fields that it keeps (train/kept_fields.h) differ.
  Trainer(const RunConfig& config, const DatasetRegistry& datasets, TrainerOptions options = {});

  // The whole run, or the rest of it. At its end the model is the best one, where one was saved; when the run was stopped it is
  // the last one. The full state is saved each train.save_state_every seconds, at the end and when the run is stopped.
  // An error is noted in config.yaml and train.log before it is thrown: Error for a gradient or a validation loss that is
  // not finite (unless train.on_nonfinite is `skip`), FileError.
  TrainingResult run();

  Model& model() { return *model_; }
  const RunFolder& folder() const { return folder_; }
  const Schedule& schedule() const { return schedule_; }
  const TrainingState& state() const { return state_; }

 private:
  struct Data {
    std::unique_ptr<Dataset> train, validation, test;  // no test split: null
  };
  static Data open_data(const RunConfig& config, const DatasetRegistry& datasets, const Workers& workers);

  static std::optional<CheckpointFile> open_start(const RunConfig& config, const TrainerOptions& options);
  static std::unique_ptr<Model> make_model(const RunConfig& config, const std::optional<CheckpointFile>& start, Device device);

  void check_alike() const;
  RunFolder open_folder() const;
  RunFolder make_folder() const;

  void begin();
  void start_from_checkpoint();
  void go_on();
  void check_state(const RunState& state, const std::filesystem::path& file) const;
  void write_state();
  void save_state();
  void share_start();
  void share_parameters();
  void by_first(const std::function<void()>& write);
  void exchange_news();

  void loop();
  bool wants_to_stop() const;
  bool asked_to_stop();
  bool state_is_due();
  bool state_time_is_over() const;
  Tensor micro_step(Prefetcher& batches);
  Tensor timed_micro_step(const Batch& batch, const ForwardContext& context);
  void optimizer_step();
  void take_outcomes(StepRunner::Newest newest);
  std::string nonfinite_text(const StepOutcome& outcome) const;
  void advance();
  void skip_empty_epochs(std::int64_t& epoch, std::int64_t& batch) const;
  Prefetcher::NextPlace places() const;
  void validate();
  void finish(TrainingResult& result);

  std::int64_t batches_in_epoch(std::int64_t epoch) const { return data_.train->size(epoch) / config_.train.batch_size; }
  std::int64_t cumulative_batch() const { return first_batch_ + state_.micro_step; }
  Evaluation run_evaluation(const Dataset& dataset, Split split);
  void save_if_best(double loss);

  void log(const std::string& line);
  void warn(const std::string& warning);
  void warn_of_data();
  void log_sample();
  LossRow training_row() const;
  std::vector<int> logged_ranks() const;
  void write_pending_rows();
  void write_row(LossRow row);
  void write_row(TimeMemoryRow row);
  void write_config();
  void note_error(const char* message) noexcept;
  void report_progress(const Tensor& loss);

  const RunConfig config_;
  const TrainerOptions options_;
  const Workers workers_;
  const Schedule schedule_;
  const std::vector<std::int64_t> validation_points_, logging_points_;  // micro-steps
  Data data_;
  std::optional<CheckpointFile> start_;  // what the run starts from, until it has
  const std::unique_ptr<Model> model_;
  StepRunner steps_;
  RunFolder folder_;
  BestCheckpoints best_;
  const StateFolder states_;
  RunSummary summary_;
  std::size_t device_memory_ = 0;  // bytes
  std::optional<ProgressClock> clock_;
  std::chrono::steady_clock::time_point state_saved_;  // or when the run began
  TrainingState state_;
  std::int64_t first_batch_ = 0;  // micro-batches before this run: of the run that it goes on from
  std::vector<LossRow> pending_rows_;  // of this worker's training losses
  bool stopped_ = false;
  bool state_due_ = false;  // as the workers have agreed
};

}  // namespace mblm
