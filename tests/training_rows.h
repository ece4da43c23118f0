// A data set for tests that train on other devices: rows that are shorter than a context of 32 and end with padding.
#pragma once

#include "mblm/mblm.h"

namespace mblm::testing {

// Ids below 48, padding 49, mask token 48 (for masked models, which also get labels). Loss masks are 0, 1 and 2.
class TrainingRows final : public Dataset {
 public:
  TrainingRows(std::int64_t rows, bool masked) : rows_(rows), masked_(masked) {}
  std::int64_t size(std::int64_t) const override { return rows_; }
  std::int64_t length() const override { return 30; }
  SequenceParts parts() const override { return {.loss_mask = true, .labels = masked_}; }
  void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
    for (std::size_t i = 0; i < out.ids.size(); ++i) {
      out.ids[i] = i < 27 ? static_cast<std::int64_t>(random_word({3, 4, 5}, static_cast<std::uint64_t>(index) * 30 + i) % 48) : 49;
      out.loss_mask[i] = static_cast<float>(i % 3);
      if (!masked_) continue;
      out.labels[i] = i % 4 == 1 ? out.ids[i] : no_label;
      if (i % 4 == 1) out.ids[i] = 48;
    }
  }

 private:
  std::int64_t rows_;
  bool masked_;
};

}  // namespace mblm::testing
