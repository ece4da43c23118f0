#include "train/data/masked_dataset.h"

#include <utility>

namespace mblm {
namespace {

Masking required_masking(const DatasetRequest& request) {
  require<ConfigError>(request.masking.has_value(),
                       "io.dataset_id: expected a data set without masks, the model is not a masked language model "
                       "(params.mask_token_id, params.mblm_config)");
  return *request.masking;
}

}  // namespace

MaskedDataset::MaskedDataset(std::unique_ptr<Dataset> original, const DatasetRequest& request)
    : original_(std::move(original)),
      masking_(required_masking(request)),
      key_{request.seed, site_of(concat_text("masking.", name_of(request.split), ".", request.worker)), 0} {
  require<ValueError>(!original_->parts().labels, "masked data: expected a data set without labels");
}

void MaskedDataset::read(std::int64_t epoch, std::int64_t index, const Sequence& out) const {
  Answer unused;
  original_->read(epoch, index, {.ids = out.ids, .loss_mask = out.loss_mask, .answer = original_->parts().answers ? &unused : nullptr});
  const RandomKey key{key_.seed, key_.site, static_cast<std::uint32_t>(epoch)};
  for (std::size_t i = 0; i < out.ids.size(); ++i) {
    const bool is_masked = random_uniform(key, static_cast<std::uint64_t>(index * length()) + i) < masking_.probability;
    out.labels[i] = is_masked ? out.ids[i] : no_label;
    if (is_masked) out.ids[i] = masking_.mask_token_id;
  }
}

}  // namespace mblm
