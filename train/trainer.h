// The trainer runs the training: data, schedule, steps, validation, checkpoints and logs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mblm/checkpoint.h"
#include "mblm/config/config.h"
#include "mblm/model.h"
#include "train/data/dataset.h"
#include "train/evaluate.h"
#include "train/loss_hints.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/run_state.h"
#include "train/schedule.h"
#include "train/trainer_hooks.h"
#include "train/workers.h"

namespace mblm {

class Checkpointer;
class Recorder;
class StepRunner;
class TrainingData;
class TrainingSteps;
class WorkerSync;

struct TrainerOptions {
  Device device = {};
  std::string job_id = {};                   // names the run folder unless empty
  bool dry_run = false;                      // check everything, but create no run folder; run() then throws Error
  std::filesystem::path resume_folder = {};  // folder of a run to resume, with the config of read_config_of_run; empty for a new run
  bool accept_changed_data = false;          // resumes a run although its training data changed
  Renames rename_modules = {};               // renames tensors of resume.checkpoint_file if resume.rename_modules is set
  TrainerCallbacks callbacks = {};
  TrainerHooks hooks = {};               // changes the training; without hooks it is that of the config
  Communicator* communicator = nullptr;  // connects the workers of the run; must outlive the trainer
};

struct TrainingResult {
  std::filesystem::path folder;
  bool stopped = false;                   // should_stop stopped the run before its end
  bool ended_early = false;               // hooks.end_run ended it
  TrainingState state;
  std::optional<double> validation_loss;  // of the best checkpoint
  std::optional<double> test_loss;        // after the last step, if the data set has a test split
};

// With a communicator each worker has a trainer with the same config and options. Each worker trains on its own share of the training
// data; the gradient of a step is the mean of the workers' mean gradients. Batches of the other splits are distributed over the
// workers. Only the first worker writes and reads the run folder. An error of one worker is thrown on all workers as a WorkerError.
class Trainer {
 public:
  // Opens the data and creates the model before the run folder, so that errors occur before anything is written. Throws ConfigError
  // (check_run_config), FileError, MemoryError, DeviceError.
  // A resumed run continues from its newest intact state and removes later rows from its tables; without a state it restarts from
  // the beginning. Throws ConfigError, naming them, if immutable fields (train/immutable_fields.h) or hooks differ, and FileError if the
  // training data changed (unless accept_changed_data).
  Trainer(const RunConfig& config, const DatasetRegistry& datasets, TrainerOptions options = {});
  ~Trainer();

  // Trains to the end of the run. Then the model is the best saved one, or the last one if none was saved or the run was stopped. Saves
  // the full state every train.save_state_every seconds, at the end, and when the run is stopped, and then also the model
  // (checkpoints/last.safetensors, to which best.safetensors is a link if no validation chose a best model).
  // Writes errors to config.yaml and train.log before it throws them: Error if a gradient or validation loss is not finite (unless
  // train.on_nonfinite is `skip`), FileError.
  TrainingResult run();

  Model& model() { return *model_; }

  // What the run does, one topic per line: model, device, data, steps, memory, folder.
  std::vector<std::string> describe() const;

 private:
  void begin(const std::optional<CheckpointFile>& start);
  void start_from_checkpoint(const std::optional<CheckpointFile>& start);
  void resume();

  void loop();
  bool is_over() const;
  void optimizer_step();
  void save_state();
  void add_training_row(double loss);
  void leave_out(double seconds);
  void give_hints();
  void validate();
  void ask_to_end(const Evaluation& evaluation);
  bool ended_early() const { return state_.ended_length == schedule_.micro_steps(); }
  void warn_of_training_batch_without_loss();
  Evaluation evaluate_split(const Dataset& dataset, Split split);
  void finish(TrainingResult& result);

  const RunConfig config_;
  const TrainerOptions options_;
  std::string collective_note_;                   // why the GPUs exchange gradients through host memory; empty if they do not
  const std::unique_ptr<Collective> collective_;  // of GPUs; null on the CPU and for a single worker
  const Workers workers_;
  const std::size_t free_bytes_;  // of the device before the model was allocated
  const std::unique_ptr<const TrainingData> data_;
  Schedule schedule_;
  const std::vector<std::int64_t> validation_points_, logging_points_;  // micro-steps
  TrainingState state_;

  // In the order of construction: each refers to members above it.
  std::unique_ptr<Model> model_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<RunFolder> folder_;  // null in a dry run, as the members below
  std::unique_ptr<BestCheckpoints> best_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<TrainingSteps> steps_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<WorkerSync> sync_;
  std::optional<ProgressReporter> progress_;  // set by run()
  std::optional<SpeedMeter> row_speed_;       // between rows of loss.csv; set by run()
  std::optional<LossHints> hints_;            // set by run()
  bool warned_of_evaluation_ = false;         // that a batch has no byte that counts
};

}  // namespace mblm
