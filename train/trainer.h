// A training run: data, schedule, steps, validation, checkpoints, logs.
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
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/run_state.h"
#include "train/schedule.h"
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
  // begins anew. Throws ConfigError, naming them, when immutable fields (train/immutable_fields.h) differ.
  Trainer(const RunConfig& config, const DatasetRegistry& datasets, TrainerOptions options = {});
  ~Trainer();

  // The whole run, or the rest of it. At its end the model is the best one, where one was saved; when the run was stopped it is
  // the last one. The full state is saved each train.save_state_every seconds, at the end and when the run is stopped.
  // An error is noted in config.yaml and train.log before it is thrown: Error for a gradient or a validation loss that is
  // not finite (unless train.on_nonfinite is `skip`), FileError.
  TrainingResult run();

  Model& model() { return *model_; }

 private:
  void begin(const std::optional<CheckpointFile>& start);
  void start_from_checkpoint(const std::optional<CheckpointFile>& start);
  void resume();

  void loop();
  void optimizer_step();
  void save_state();
  void validate();
  Evaluation evaluate_split(const Dataset& dataset, Split split);
  void finish(TrainingResult& result);

  const RunConfig config_;
  const TrainerOptions options_;
  const Workers workers_;
  const Schedule schedule_;
  const std::vector<std::int64_t> validation_points_, logging_points_;  // micro-steps
  TrainingState state_;

  // In the order in which the constructor makes them: each refers to some of those before it.
  std::unique_ptr<const TrainingData> data_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<BestCheckpoints> best_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<TrainingSteps> steps_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<WorkerSync> sync_;
  std::optional<ProgressReporter> progress_;  // of run()
};

}  // namespace mblm
