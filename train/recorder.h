// What a run writes into its folder beside checkpoints: train.log, the rows of loss.csv and timemem.csv, config.yaml.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/device.h"
#include "mblm/config/config.h"
#include "mblm/model.h"
#include "train/best_checkpoints.h"
#include "train/data/dataset.h"
#include "train/evaluate.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/run_state.h"
#include "train/workers.h"

namespace mblm {

// Rank 0 writes; all workers make the same calls. The recorder reads the state and the list of the best checkpoints when it
// writes. What its constructor gets by reference must live as long as this.
class Recorder {
 public:
  Recorder(const RunConfig& config, const TrainerCallbacks& callbacks, const Workers& workers, const TrainingState& state, const BestCheckpoints& best,
           RunFolder& folder, const DeviceInfo& device, RunSummary summary);

  void log(const std::string& line);
  void warn(const std::string& warning);
  // Logs what the model writes now: a function of the seed and the micro-step. Costs no more than a forward pass of a micro-batch.
  void log_sample(const Model& model, const Dataset& dataset);

  // The loss of the micro-step that was just done, before the state moves on; `learning_rate` is that of the next optimizer step.
  // With several workers the rows wait until write_pending_rows.
  void add_training_loss(double loss, double learning_rate);
  void write_pending_rows();  // exchanges the losses of the workers when there are rows
  void write_validation(const Evaluation& evaluation);
  void write_test(const Evaluation& evaluation);

  void write_training_time(double forward_seconds, double backward_seconds);
  void write_evaluation_time(Split split, double seconds);

  // config.yaml with its summary. Its `resume` says where to go on, so that the file is a config that continues the run.
  void write_config();
  void begin_training();  // sets the times of the summary, and writes nothing
  void end_training();
  // Notes an error in train.log and config.yaml. Errors in doing so are ignored: the caller throws the first one.
  void note_error(const char* message) noexcept;

 private:
  std::vector<int> logged_ranks() const;
  void write_row(LossRow row);
  void write_row(TimeMemoryRow row);

  const RunConfig& config_;
  const TrainerCallbacks& callbacks_;
  const Workers& workers_;
  const TrainingState& state_;
  const BestCheckpoints& best_;
  RunFolder& folder_;
  const DeviceInfo device_;
  RunSummary summary_;
  std::vector<LossRow> pending_rows_;  // of this worker's training losses
};

}  // namespace mblm
