// A training run: data, schedule, steps, validation, checkpoints, logs.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "mblm/config.h"
#include "mblm/model.h"
#include "train/best_checkpoints.h"
#include "train/dataset.h"
#include "train/evaluate.h"
#include "train/run_folder.h"
#include "train/schedule.h"
#include "train/step_runner.h"

namespace mblm {

// All that moves while a run goes on, beside the parameters, the optimizer's moments and the best checkpoints.
struct TrainingState {
  std::int64_t micro_step = 0;                     // micro-batches done in this run
  std::int64_t steps = 0, skipped_steps = 0;       // optimizer steps: all, and those whose gradient was not finite
  std::int64_t elements = 0;                       // seen in this run
  std::int64_t epoch = 0, batch = 0;               // of the next micro-batch
  double avg_grad = -1, avg_grad_clipped = -1;     // of the last optimizer step before a logging point
};

struct TrainingProgress {
  std::int64_t step = 0, steps = 0;              // optimizer steps
  std::int64_t micro_step = 0, micro_steps = 0;
  double loss = 0, bits_per_byte = 0;            // of the last micro-batch
  double learning_rate = 0;
  std::optional<double> gradient_norm;           // of the last optimizer step, before clipping
  double bytes_per_second = 0, seconds_left = 0;
};

// Each may be empty. They are called from the thread that runs the training.
struct TrainerCallbacks {
  std::function<void(const TrainingProgress&)> on_progress;
  double progress_interval = 0.5;                        // seconds between two calls; the last micro-step is always told
  std::function<void(const std::string& line)> on_log;   // what train.log gets
  std::function<bool()> should_stop;                     // asked once per micro-step, and between batches of a validation
};

struct TrainerOptions {
  Device device;
  std::string job_id;  // names the run's folder when not empty
  TrainerCallbacks callbacks;
};

struct TrainingResult {
  std::filesystem::path folder;
  bool stopped = false;                       // before its end, by should_stop
  TrainingState state;
  std::optional<double> validation_loss;      // of the best checkpoint
  std::optional<double> test_loss;            // where the data set has a test split
};

class Trainer {
 public:
  // Opens the data, makes the run's folder and the model, in this order: what can be wrong is found before anything is
  // computed. `config` must have passed its checks. Throws FileError, ConfigError, MemoryError, DeviceError.
  Trainer(const RunConfig& config, const DatasetRegistry& datasets, TrainerOptions options = {});

  // The whole run. At its end the model is the best one, where one was saved; when it was stopped it is the last one.
  // An error is noted in config.yaml and train.log before it is thrown.
  TrainingResult run();

  Model& model() { return model_; }
  const RunFolder& folder() const { return folder_; }
  const TrainingState& state() const { return state_; }
  const Schedule& schedule() const { return schedule_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Data {
    std::unique_ptr<Dataset> train, validation, test;  // no test: null
  };
  static Data open_data(const RunConfig& config, const DatasetRegistry& datasets);

  void prepare_model();
  void start_from_checkpoint();
  void loop();
  Tensor micro_step();
  void optimizer_step();
  void move_on();
  void skip_short_epochs();
  std::int64_t batches_in_epoch(std::int64_t epoch) const;
  std::int64_t cumulative_batch() const { return first_batch_ + state_.micro_step; }
  Evaluation run_evaluation(const Dataset& dataset, std::string_view kind, std::int64_t batch);
  void validate();
  void finish();
  void log(const std::string& line);
  void log_training_loss(const Tensor& loss);
  void write_config();
  void report_progress(const Tensor& loss);
  bool stop_requested() const;

  RunConfig config_;
  const TrainerOptions options_;
  const Schedule schedule_;
  Data data_;
  RunFolder folder_;
  Model model_;
  std::optional<StepRunner> steps_;
  BestCheckpoints best_;
  RunSummary summary_;
  TrainingState state_;
  TrainingResult result_;
};

}  // namespace mblm
