#include "train/data/masked_dataset.h"

#include <utility>
#include <vector>

#include "mblm/model.h"

namespace mblm {
namespace {

Masking required_masking(const DatasetRequest& request) {
  require<ConfigError>(request.masking.has_value(),
                       "io.dataset_id: expected a data set without masks, the model is no masked language model (params.mask_token_id, params.mblm_config)");
  return *request.masking;
}

}  // namespace

MaskedDataset::MaskedDataset(std::unique_ptr<Dataset> original, const DatasetRequest& request)
    : original_(std::move(original)),
      masking_(required_masking(request)),
      key_{request.seed, site_of(concat_text("masking.", name_of(request.split), ".", request.worker)), 0} {
  require<ValueError>(!original_->has_labels(), "masked data: expected a data set without labels");
}

bool MaskedDataset::is_masked(std::int64_t epoch, std::int64_t index, std::size_t place) const {
  const RandomKey key{key_.seed, key_.site, static_cast<std::uint32_t>(epoch)};
  return random_uniform(key, static_cast<std::uint64_t>(index * length()) + place) < masking_.probability;
}

void MaskedDataset::read(std::int64_t epoch, std::int64_t index, std::span<std::int64_t> ids, std::span<float> loss_mask) const {
  original_->read(epoch, index, ids, loss_mask);
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (is_masked(epoch, index, i)) ids[i] = masking_.mask_token_id;
}

void MaskedDataset::read_labels(std::int64_t epoch, std::int64_t index, std::span<std::int64_t> labels) const {
  std::vector<float> weights(has_loss_mask() ? labels.size() : 0);
  original_->read(epoch, index, labels, weights);
  for (std::size_t i = 0; i < labels.size(); ++i)
    if (!is_masked(epoch, index, i)) labels[i] = no_label;
}

}  // namespace mblm
