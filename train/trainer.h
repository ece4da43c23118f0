// A training run: data, schedule, steps, validation, checkpoints, logs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mblm/config.h"
#include "mblm/model.h"
#include "train/best_checkpoints.h"
#include "train/dataset.h"
#include "train/evaluate.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/schedule.h"
#include "train/step_runner.h"

namespace mblm {

// All that moves while a run goes on, beside the parameters, the optimizer's moments and the best checkpoints.
struct TrainingState {
  std::int64_t micro_step = 0;                  // micro-batches done in this run
  std::int64_t steps = 0, skipped_steps = 0;    // optimizer steps: all, and those whose gradient was not finite
  std::int64_t elements = 0;                    // seen in this run
  std::int64_t epoch = 0, batch = 0;            // of the next micro-batch
  double avg_grad = -1, avg_grad_clipped = -1;  // for the next row of loss.csv, from the last optimizer step before it
};

// Each may be empty. They are called from the thread that runs the training.
struct TrainerCallbacks {
  std::function<void(const TrainingProgress&)> on_progress = {};
  double progress_interval = 0.5;                       // seconds between two calls; the last micro-step is always told
  std::function<void(const std::string& line)> on_log = {};  // what train.log gets
  std::function<bool()> should_stop = {};               // asked before each micro-step, and between batches of a validation
};

struct TrainerOptions {
  Device device = {};
  std::string job_id = {};  // names the run's folder when not empty
  TrainerCallbacks callbacks = {};
};

struct TrainingResult {
  std::filesystem::path folder;
  bool stopped = false;                   // by should_stop, before the end
  TrainingState state;
  std::optional<double> validation_loss;  // of the best checkpoint
  std::optional<double> test_loss;        // at the end, where the data set has a test split
};

class Trainer {
 public:
  // Opens the data, makes the model and then the run's folder: what can be wrong is found before anything is written.
  // Throws ConfigError (check_run_config), FileError, MemoryError, DeviceError.
  Trainer(const RunConfig& config, const DatasetRegistry& datasets, TrainerOptions options = {});

  // The whole run. At its end the model is the best one, where one was saved; when the run was stopped it is the last one.
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
  static Data open_data(const RunConfig& config, const DatasetRegistry& datasets);

  static std::unique_ptr<Model> make_model(const RunConfig& config, Device device);

  void start_from_checkpoint();

  void loop();
  Tensor micro_step();
  Tensor timed_micro_step(const Batch& batch, const ForwardContext& context);
  void optimizer_step();
  void advance();
  void skip_empty_epochs();
  void validate(LossRow row);
  void finish(TrainingResult& result);

  std::int64_t batches_in_epoch(std::int64_t epoch) const { return data_.train->size(epoch) / config_.train.batch_size; }
  std::int64_t cumulative_batch() const { return first_batch_ + state_.micro_step; }
  Evaluation run_evaluation(const Dataset& dataset, Split split);
  void save_if_best(double loss);

  void log(const std::string& line);
  LossRow training_row() const;
  void write_row(LossRow row);
  void write_row(TimeMemoryRow row);
  void write_config();
  void note_error(const char* message) noexcept;
  void report_progress(const Tensor& loss);

  const RunConfig config_;
  const TrainerOptions options_;
  const Schedule schedule_;
  const std::vector<std::int64_t> validation_points_, logging_points_;  // micro-steps
  Data data_;
  const std::unique_ptr<Model> model_;
  StepRunner steps_;
  RunFolder folder_;
  BestCheckpoints best_;
  RunSummary summary_;
  std::size_t device_memory_ = 0;  // bytes
  std::optional<ProgressClock> clock_;
  TrainingState state_;
  std::int64_t first_batch_ = 0;  // micro-batches before this run: of the run that it goes on from
  bool stopped_ = false;
};

}  // namespace mblm
