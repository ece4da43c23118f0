// Data sets for masked language models, made from others.
#pragma once

#include <memory>

#include "train/data/dataset.h"

namespace mblm {

// The sequences of another data set, each id replaced by `mask_token_id` with probability `masking.probability`; the labels
// are the original ids at these places. Answers are left out. Which places is a function of the seed, the split, the worker, the epoch and the
// id's place in the epoch: a sequence that is read again is masked alike.
class MaskedDataset final : public Dataset {
 public:
  // Takes its masking, seed, split and worker from `request`. Throws ConfigError when that has no masking, ValueError for a
  // data set that has labels already.
  MaskedDataset(std::unique_ptr<Dataset> original, const DatasetRequest& request);

  std::int64_t size(std::int64_t epoch) const override { return original_->size(epoch); }
  std::int64_t length() const override { return original_->length(); }
  SequenceParts parts() const override { return {.loss_mask = original_->parts().loss_mask, .labels = true}; }
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override;
  std::vector<std::string> warnings() const override { return original_->warnings(); }

 private:
  const std::unique_ptr<Dataset> original_;
  const Masking masking_;
  const RandomKey key_;  // of epoch 0
};

}  // namespace mblm
