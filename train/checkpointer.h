// The checkpoints of a run: its best models, and the states to resume it from.
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
#include "train/trainer_hooks.h"
#include "train/training_data.h"
#include "train/training_steps.h"
#include "train/workers.h"

namespace mblm {

// The arguments of the constructor must outlive this object.
class Checkpointer {
 public:
  // All workers must create it together.
  Checkpointer(const RunConfig& config, const TrainerHooks& hooks, Schedule& schedule, const Workers& workers, const TrainingData& data, Model& model,
               TrainingSteps& steps, RunFolder& folder, BestCheckpoints& best, Recorder& recorder);

  // Rank 0 only. Saves the model if its validation loss is among the best.
  void save_if_best(double validation_loss, const TrainingState& state);
  // Rank 0 only. Saves the model as last.safetensors.
  void save_last(const TrainingState& state);
  // All workers. Loads the best model, if one was saved, and removes unlisted checkpoints.
  void load_best();

  // Rank 0 only. Saves the full state of the run.
  void save_state(const TrainingState& state);
  // Rank 0 only. Restores model, optimizer, tables and the list of the best checkpoints from the newest intact state and returns the
  // training state. The schedule keeps the number of warm-up steps of the saved state. Without a saved state empties the tables and
  // returns the initial state. Throws ConfigError, naming the fields, if immutable fields (train/immutable_fields.h) or hooks differ,
  // and FileError for changed data unless `accept_changed_data`; nothing is changed then.
  TrainingState restore(bool accept_changed_data);

 private:
  void check_state(const RunState& state) const;
  void check_data(const RunState& state, bool accept_changed_data) const;
  void report_saved(const SavedFile& file) const;

  const RunConfig& config_;
  const TrainerHooks& hooks_;
  Schedule& schedule_;
  const Workers& workers_;
  const TrainingData& data_;
  Model& model_;
  TrainingSteps& steps_;
  RunFolder& folder_;
  BestCheckpoints& best_;
  Recorder& recorder_;
  const StateFolder states_;
  const std::string data_fingerprint_;  // of the training data of all workers
};

}  // namespace mblm
