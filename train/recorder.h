// Writes the files of a run other than checkpoints: train.log, loss.csv, timemem.csv and config.yaml.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/device.h"
#include "mblm/config/config.h"
#include "mblm/model.h"
#include "train/best_checkpoints.h"
#include "train/data/dataset.h"
#include "train/evaluate.h"
#include "train/event_file.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/run_state.h"
#include "train/trainer_hooks.h"
#include "train/workers.h"

namespace mblm {

// Rank 0 writes; all workers must make the same calls. The recorder reads the state and the list of the best checkpoints when it
// writes. The arguments of the constructor must outlive this object.
class Recorder {
 public:
  Recorder(const RunConfig& config, const TrainerCallbacks& callbacks, const TrainerHooks& hooks, const Workers& workers, const TrainingState& state,
           const BestCheckpoints& best, RunFolder& folder, const DeviceInfo& device, RunSummary summary);

  void log(const std::string& line);
  void warn(const std::string& warning);
  // Logs a sample of the model's output, a function of the seed and the micro-step. Costs at most a forward pass of a micro-batch.
  void log_sample(const Model& model, const Dataset& dataset);

  // Adds a row for the micro-step just done; call it before the state advances and after finish_steps, so that the smoothed loss
  // contains all optimizer steps. `learning_rate` belongs to the next optimizer step.
  // With several workers the rows are pending until write_pending_rows.
  void add_training_loss(double loss, double learning_rate, std::optional<double> bytes_per_second);
  void write_pending_rows();  // exchanges the losses of the workers if there are pending rows
  void write_validation(const Evaluation& evaluation);
  void write_test(const Evaluation& evaluation);

  void write_training_time(double forward_seconds, double backward_seconds);
  void write_evaluation_time(Split split, double seconds);

  // Writes config.yaml with its summary. A new run with this config repeats the run: `resume` is as given. Paths that exist are absolute.
  void write_config();
  void begin_training();  // sets the start time of the summary and starts the event file
  void end_training();    // sets the end time of the summary; writes nothing
  // Writes an error to train.log and config.yaml. Ignores further errors, since the caller throws the first one.
  void note_error(const char* message) noexcept;

 private:
  std::vector<int> logged_ranks() const;
  void write_row(LossRow row);
  void write_to_table(const LossRow& row);
  void write_events(const LossRow& row);
  void write_metrics(const LossRow& row);
  void write_row(TimeMemoryRow row);

  const RunConfig& config_;
  const TrainerCallbacks& callbacks_;
  const TrainerHooks& hooks_;
  const Workers& workers_;
  const TrainingState& state_;
  const BestCheckpoints& best_;
  RunFolder& folder_;
  const DeviceInfo device_;
  RunSummary summary_;
  std::vector<LossRow> pending_rows_;   // training losses of this worker
  std::unique_ptr<EventFile> events_;   // of rank 0, with io.tensorboard
};

}  // namespace mblm
