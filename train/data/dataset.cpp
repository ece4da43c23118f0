#include "train/data/dataset.h"

#include <utility>

#include "train/data/clevr.h"
#include "train/data/files.h"
#include "train/data/pg19.h"

namespace mblm {

std::string_view name_of(Split split) {
  constexpr std::string_view names[] = {"train", "validation", "test"};
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
  require<ValueError>(makers_.emplace(dataset_id, std::move(make)).second, "data sets: the id ", dataset_id, " is taken");
}

std::unique_ptr<Dataset> DatasetRegistry::make(const std::string& dataset_id, const DatasetRequest& request) const {
  const auto found = makers_.find(dataset_id);
  if (found == makers_.end()) {
    std::string known;
    for (const std::string& id : ids()) known += (known.empty() ? "" : ", ") + id;
    throw ConfigError(concat_text("io.dataset_id: expected one of ", known, ", got ", dataset_id));
  }
  std::unique_ptr<Dataset> dataset = found->second(request);
  require<Error>(dataset != nullptr || request.split == Split::Test, "data set ", dataset_id, ": expected a ", name_of(request.split), " split");
  return dataset;
}

std::vector<std::string> DatasetRegistry::ids() const {
  std::vector<std::string> all;
  for (const auto& [id, make] : makers_) all.push_back(id);
  return all;
}

Batch read_batch(const Dataset& dataset, std::int64_t epoch, std::int64_t first, std::int64_t count, const std::optional<RandomKey>& shuffle) {
  const std::int64_t length = dataset.length(), size = dataset.size(epoch);
  require<ValueError>(first >= 0 && count >= 0 && first <= size - count, "data: sequences ", first, " to ", first + count, " of ", size);
  Batch batch{empty(Shape{count, length}, DType::Int64), dataset.has_loss_mask() ? empty(Shape{count, length}, DType::Float32) : Tensor()};
  if (dataset.has_labels()) batch.labels = empty(Shape{count, length}, DType::Int64);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto place = static_cast<std::uint64_t>(first + i);
    const std::int64_t index = shuffle ? static_cast<std::int64_t>(random_permutation(*shuffle, static_cast<std::uint64_t>(size), place)) : first + i;
    const auto row = [&]<class T>(T* data) { return std::span<T>(data + i * length, static_cast<std::size_t>(length)); };
    const std::span<std::int64_t> ids = row(batch.ids.host_data<std::int64_t>());
    const std::span<float> loss_mask = batch.loss_mask.defined() ? row(batch.loss_mask.host_data<float>()) : std::span<float>();
    if (!dataset.has_answers()) {
      dataset.read(epoch, index, ids, loss_mask);
    } else {
      const Answer& answer = batch.answers.emplace_back(dataset.read_with_answer(epoch, index, ids, loss_mask));
      require<ValueError>(answer.first >= 0 && answer.count >= 0 && answer.first <= length - answer.count, "data: sequence ", index,
                          ": expected an answer within ", length, " ids, got ", answer.count, " from ", answer.first);
    }
    if (batch.labels.defined()) dataset.read_labels(epoch, index, row(batch.labels.host_data<std::int64_t>()));
  }
  return batch;
}

}  // namespace mblm
