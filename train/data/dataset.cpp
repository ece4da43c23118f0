#include "train/data/dataset.h"

#include <algorithm>
#include <utility>

#include "engine/io/checksum.h"
#include "train/data/clevr.h"
#include "train/data/text_datasets.h"

namespace mblm {
namespace {

// Row i of a tensor (B, L); empty for an undefined tensor.
template <class T>
std::span<T> row_of(Tensor& x, std::int64_t i) {
  if (!x.defined()) return {};
  return {x.host_data<T>() + i * x.size(1), static_cast<std::size_t>(x.size(1))};
}

// A mask with 0 for padding and 1 for other ids; undefined if there is no padding.
Tensor without_padding(const Tensor& ids, std::int64_t pad_token_id) {
  const std::span<const std::int64_t> values(ids.host_data<std::int64_t>(), static_cast<std::size_t>(ids.numel()));
  if (std::find(values.begin(), values.end(), pad_token_id) == values.end()) return {};
  std::vector<std::uint8_t> mask(values.size());
  std::transform(values.begin(), values.end(), mask.begin(), [=](std::int64_t id) { return id != pad_token_id; });
  return from_values<std::uint8_t>(ids.shape(), mask);
}

// Whether the loss has an element that can be nonzero: a target other than padding (masked: with a label) whose weight is not 0.
bool has_counted_byte(const ModelInput& input, const ModelConfig& model) {
  const std::int64_t ignored = model.is_masked() ? no_label : model.pad_token_id;
  const std::int64_t* const targets = input.targets.host_data<std::int64_t>();
  const std::vector<double> weights = input.loss_mask.defined() ? input.loss_mask.to_vector_as<double>() : std::vector<double>{};
  for (std::int64_t i = 0; i < input.targets.numel(); ++i)
    if (targets[i] != ignored && (weights.empty() || weights[static_cast<std::size_t>(i)] != 0)) return true;
  return false;
}

}  // namespace

std::string Dataset::fingerprint() const {
  constexpr std::int64_t most_samples = 64;
  const std::int64_t sequences = size(0), samples = std::min(most_samples, sequences);
  Checksum sum;
  for (std::int64_t i = 0; i < samples; ++i) {
    // (sequences - 1) i / (samples - 1) without overflow.
    const std::int64_t index = samples == 1 ? 0 : (sequences - 1) / (samples - 1) * i + (sequences - 1) % (samples - 1) * i / (samples - 1);
    try {
      const Batch batch = read_batch(*this, {.epoch = 0, .first = index, .count = 1});
      for (const Tensor& x : {batch.ids, batch.loss_mask, batch.labels})
        if (x.defined()) sum.add(x.host_bytes().data(), x.bytes());
    } catch (const std::exception&) {  // the training reports it when it comes to this sequence
      sum.add("unreadable");
    }
  }
  return concat_text(sequences, " sequences of ", length(), " ids, samples ", sum.text());
}

std::string_view name_of(Split split) {
  constexpr std::string_view names[] = {"train", "validation", "test", "all"};
  return names[static_cast<int>(split)];
}

std::optional<Masking> masking_of(const RunConfig& config) {
  if (!config.model.is_masked()) return {};
  return Masking{config.model.masking->mask_token_id, config.train.masking_proba.value_or(0)};
}

DatasetRegistry::DatasetRegistry() {
  add("clevr", make_clevr);
  add("files", make_files);
  add("pg19", make_pg19);
  add("pg19masked", make_pg19_masked);
}

void DatasetRegistry::add(const std::string& dataset_id, Make make) {
  require<ValueError>(makers_.emplace(dataset_id, std::move(make)).second, "data sets: duplicate id ", dataset_id);
}

std::unique_ptr<Dataset> DatasetRegistry::make(const std::string& dataset_id, const DatasetRequest& request) const {
  const auto found = makers_.find(dataset_id);
  if (found == makers_.end()) {
    std::string known;
    for (const std::string& id : ids()) known += (known.empty() ? "" : ", ") + id;
    throw ConfigError(concat_text("io.dataset_id: expected one of ", known, ", got ", shown_text(dataset_id)));
  }
  std::unique_ptr<Dataset> dataset = found->second(request);
  require<Error>(dataset != nullptr || request.split == Split::Test, "data set ", dataset_id, ": expected a ", name_of(request.split),
                 " split, there is none");
  return dataset;
}

std::vector<std::string> DatasetRegistry::ids() const {
  std::vector<std::string> all;
  for (const auto& [id, make] : makers_) all.push_back(id);
  return all;
}

Batch read_batch(const Dataset& dataset, const BatchPlace& place) {
  const auto& [epoch, first, count, shuffle] = place;
  const std::int64_t length = dataset.length(), size = dataset.size(epoch);
  require<ValueError>(first >= 0 && count >= 0 && first <= size - count, "data: expected sequences in [0, ", size, "), got [", first, ", ",
                      first + count, ")");
  const SequenceParts parts = dataset.parts();
  const Shape shape{count, length};
  Batch batch{empty(shape, DType::Int64), parts.loss_mask ? empty(shape, DType::Float32) : Tensor(), parts.labels ? empty(shape, DType::Int64) : Tensor()};
  batch.answers.resize(parts.answers ? static_cast<std::size_t>(count) : 0);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::uint64_t>(first + i);
    const std::int64_t index = shuffle ? static_cast<std::int64_t>(random_permutation(*shuffle, static_cast<std::uint64_t>(size), at)) : first + i;
    Answer* const answer_place = parts.answers ? &batch.answers[static_cast<std::size_t>(i)] : nullptr;
    dataset.read(epoch, index, {row_of<std::int64_t>(batch.ids, i), row_of<float>(batch.loss_mask, i), row_of<std::int64_t>(batch.labels, i), answer_place});
    if (!parts.answers) continue;
    const Answer& answer = *answer_place;
    require<ValueError>(answer.first >= 0 && answer.count >= 0 && answer.first <= length - answer.count, "data: sequence ", index,
                        ": expected an answer within ", length, " ids, got ", answer.count, " ids at ", answer.first);
  }
  return batch;
}

Batch read_batch(const Dataset& dataset, const BatchPlace& place, const ModelConfig& model) {
  Batch batch = read_batch(dataset, place);
  batch.input = prepare_input(model, batch);
  batch.has_loss = has_counted_byte(batch.input, model);
  return batch;
}

ModelInput prepare_input(const ModelConfig& model, const Batch& batch) {
  if (!model.is_masked()) return prepare_input(model, batch.ids, {}, {}, batch.loss_mask);
  require<ValueError>(batch.labels.defined(), "data: expected labels for a masked language model, there are none");
  return prepare_input(model, batch.ids, without_padding(batch.ids, model.pad_token_id), batch.labels, batch.loss_mask);
}

}  // namespace mblm
