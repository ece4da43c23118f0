// The checkpoints of a run: its best models, and the states from which it can be resumed.
#pragma once

#include <filesystem>

#include "mblm/checkpoint.h"
#include "mblm/config/config.h"
#include "mblm/model.h"
#include "train/best_checkpoints.h"
#include "train/recorder.h"
#include "train/run_folder.h"
#include "train/schedule.h"
#include "train/state_folder.h"
#include "train/training_data.h"
#include "train/training_steps.h"
#include "train/workers.h"

namespace mblm {

// What the constructor gets by reference must live as long as this.
class Checkpointer {
 public:
  Checkpointer(const RunConfig& config, const Schedule& schedule, const Workers& workers, const TrainingData& data, Model& model, TrainingSteps& steps,
               RunFolder& folder, BestCheckpoints& best, Recorder& recorder);

  // On rank 0: saves the model when its validation loss is among the best.
  void save_if_best(double validation_loss, const TrainingState& state);
  // On all workers: gives them the best model, where one was saved, and removes checkpoints that are not listed.
  void load_best();

  // On rank 0: saves all that the run needs to be resumed.
  void save_state(const TrainingState& state);
  // On rank 0: makes model, optimizer, tables and the list of the best checkpoints those of the newest state that is whole, and
  // gives its numbers. Without any state the run begins anew. Throws ConfigError, naming them, when immutable fields
  // (train/immutable_fields.h) differ, and FileError for other data; then nothing is changed.
  TrainingState restore();

 private:
  void check_state(const RunState& state, const std::filesystem::path& file) const;

  const RunConfig& config_;
  const Schedule& schedule_;
  const Workers& workers_;
  const TrainingData& data_;
  Model& model_;
  TrainingSteps& steps_;
  RunFolder& folder_;
  BestCheckpoints& best_;
  Recorder& recorder_;
  const StateFolder states_;
};

}  // namespace mblm
