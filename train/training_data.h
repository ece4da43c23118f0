// The data of a training run: its splits, and the order in which training takes its batches.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "train/data/dataset.h"
#include "train/data/prefetch.h"
#include "train/run_state.h"
#include "train/workers.h"

namespace mblm {

// The training split is this worker's share, the other splits are whole.
class TrainingData {
 public:
  // Opens the splits that io.dataset_id names. Throws ConfigError when the data set does not fit the model or `resume`, FileError
  // when it is too short for a batch. `config` must live as long as this.
  TrainingData(const RunConfig& config, const DatasetRegistry& datasets, const Workers& workers);

  const Dataset& train() const { return *train_; }
  const Dataset& validation() const { return *validation_; }
  const Dataset* test() const { return test_.get(); }  // null: no such split
  std::vector<std::string> warnings() const;           // of all splits, each line once

  // The state before the first micro-step: batch `batch` of epoch `epoch`.
  TrainingState state_at(std::int64_t epoch, std::int64_t batch) const;
  // Moves the state past the micro-step that was just done.
  void advance(TrainingState& state) const;
  // The batches of the next `count` micro-steps. Other threads call the function: it keeps a place of its own.
  Prefetcher::NextPlace places(const TrainingState& state, std::int64_t count) const;

 private:
  std::int64_t batches_in_epoch(std::int64_t epoch) const { return train_->size(epoch) / config_.train.batch_size; }
  void skip_empty_epochs(std::int64_t& epoch, std::int64_t& batch) const;

  const RunConfig& config_;
  const std::unique_ptr<Dataset> train_, validation_, test_;
};

}  // namespace mblm
