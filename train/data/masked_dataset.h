// Masks the sequences of a data set for masked language models.
#pragma once

#include <memory>

#include "train/data/dataset.h"

namespace mblm {

// The sequences of another data set, in which each id is replaced by `mask_token_id` with probability `masking.probability`. The
// labels are the original ids at these places. Answers are dropped. The masked places are a function of the seed, the split, the
// worker, the epoch and the place of the id in the epoch, so that a sequence is masked identically at each read.
class MaskedDataset final : public Dataset {
 public:
  // Uses masking, seed, split and worker of `request`. Throws ConfigError if the request has no masking, ValueError if the original
  // data set already has labels.
  MaskedDataset(std::unique_ptr<Dataset> original, const DatasetRequest& request);

  std::int64_t size(std::int64_t epoch) const override { return original_->size(epoch); }
  std::int64_t length() const override { return original_->length(); }
  SequenceParts parts() const override { return {.loss_mask = original_->parts().loss_mask, .labels = true}; }
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override;
  std::vector<std::string> warnings() const override { return original_->warnings(); }

 private:
  const std::unique_ptr<Dataset> original_;
  const Masking masking_;
  const RandomKey key_;  // for epoch 0
};

}  // namespace mblm
