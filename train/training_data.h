// The data of a training run: its splits and the order of training batches.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "train/data/dataset.h"
#include "train/data/prefetch.h"
#include "train/run_state.h"
#include "train/workers.h"

namespace mblm {

// Opens a split of the data set `id`. If request.path, the io.dataset_dir of a config, does not exist, the FileError names the field, the
// folder in which a relative path was looked for, and `way_out`.
std::unique_ptr<Dataset> open_split(const DatasetRegistry& datasets, const std::string& id, const DatasetRequest& request, const std::string& way_out);

// A warning if bytes of the data set equal the padding id, which removes them from the loss; else empty.
std::string padding_warning(const Dataset& dataset, const std::string& path, const ModelConfig& model);

// The training split contains this worker's share, the other splits are complete.
class TrainingData {
 public:
  // Opens the splits of the data set io.dataset_id. Throws ConfigError if the data set does not match the model or `resume`, FileError
  // if it is too short for a batch. `config` must outlive this object.
  TrainingData(const RunConfig& config, const DatasetRegistry& datasets, const Workers& workers);

  const Dataset& train() const { return *train_; }
  const Dataset& validation() const { return *validation_; }
  const Dataset* test() const { return test_.get(); }  // null without a test split
  std::vector<std::string> warnings() const;           // of all splits, without duplicates, and of padding ids in the training split

  // The number of batches in the first train.epochs epochs; nothing without train.epochs.
  std::optional<std::int64_t> epoch_micro_steps() const;

  // The state of a run that starts at batch `batch` of epoch `epoch`.
  TrainingState state_at(std::int64_t epoch, std::int64_t batch) const;
  // Advances the state past the micro-step just done.
  void advance(TrainingState& state) const;
  // Returns a function that produces the places of the next `count` micro-steps. It keeps its own position and can be called from
  // another thread.
  Prefetcher::NextPlace places(const TrainingState& state, std::int64_t count) const;

 private:
  std::int64_t batches_in_epoch(std::int64_t epoch) const { return train_->size(epoch) / config_.train.batch_size; }
  void skip_empty_epochs(std::int64_t& epoch, std::int64_t& batch) const;

  const RunConfig& config_;
  const std::unique_ptr<Dataset> train_, validation_, test_;
};

}  // namespace mblm
