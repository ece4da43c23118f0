#include "train/training_data.h"

#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "engine/error.h"
#include "engine/random.h"

namespace mblm {
namespace {

std::unique_ptr<Dataset> open_split(const RunConfig& config, const DatasetRegistry& datasets, const Workers& workers, Split split) {
  const bool is_shared = split == Split::Train;
  return mblm::open_split(datasets, config.io.dataset_id, {.path = config.io.dataset_dir,
                                              .arguments = config.io.dataset_args,
                                              .split = split,
                                              .length = config.input_seq_len,
                                              .num_tokens = config.model.num_tokens,
                                              .pad_token_id = config.model.pad_token_id,
                                              .masking = masking_of(config),
                                              .seed = static_cast<std::uint64_t>(config.train.seed),
                                              .worker = is_shared ? workers.rank() : 0,
                                              .workers = is_shared ? workers.size() : 1},
                          "set it on the command line: io.dataset_dir=PATH");
}

}  // namespace

std::unique_ptr<Dataset> open_split(const DatasetRegistry& datasets, const std::string& id, const DatasetRequest& request, const std::string& way_out) {
  try {
    return datasets.make(id, request);
  } catch (const FileError&) {
    std::error_code error;
    if (std::filesystem::exists(request.path, error)) throw;
    const std::string place = request.path.is_absolute() ? "" : concat_text(" in ", std::filesystem::current_path(error).string());
    const std::string fact = request.path.empty() ? "got an empty name" : concat_text(request.path.string(), " does not exist", place);
    throw FileError(concat_text("io.dataset_dir: expected a file or a folder, ", fact, "; ", way_out));
  }
}

std::string padding_warning(const Dataset& dataset, const std::string& path, const ModelConfig& model) {
  const double share = dataset.padding_share();
  if (share == 0) return {};
  return concat_text(path, ": ", std::setprecision(2), 100 * share, " % of the bytes equal the padding id ", model.pad_token_id, ", so that ",
                     model.is_masked() ? "the model does not attend to them" : "the loss ignores them",
                     "; use an id that no byte has, such as num_tokens: 257 with pad_token_id: 256");
}

TrainingData::TrainingData(const RunConfig& config, const DatasetRegistry& datasets, const Workers& workers)
    : config_(config),
      train_(open_split(config, datasets, workers, Split::Train)),
      validation_(open_split(config, datasets, workers, Split::Validation)),
      test_(open_split(config, datasets, workers, Split::Test)) {
  require<ConfigError>(train_->parts().labels == config.model.is_masked(), "io.dataset_id: expected a data set with",
                       config.model.is_masked() ? "" : "out", " masks, such as ", config.model.is_masked() ? "pg19masked" : "pg19", ", got ",
                       config.io.dataset_id);
  require<FileError>(train_->size(0) >= config.train.batch_size, config.io.dataset_dir, ": expected at least ", config.train.batch_size,
                     " sequences of ", config.input_seq_len, " ids for a training batch, found ", train_->size(0));
  if (!config.resume) return;
  const std::int64_t batches = batches_in_epoch(config.resume->next_epoch_index);
  require<ConfigError>(config.resume->next_batch_index <= batches, "resume.next_batch_index: expected at most ", batches,
                       ", the number of batches in the epoch, got ", config.resume->next_batch_index);
}

// Splits can have files, and thus warnings, in common.
std::vector<std::string> TrainingData::warnings() const {
  std::vector<std::string> lines;
  if (const std::string padding = padding_warning(*train_, config_.io.dataset_dir, config_.model); !padding.empty()) lines.push_back(padding);
  for (const Dataset* split : {train_.get(), validation_.get(), test_.get()}) {
    if (split == nullptr) continue;
    for (const std::string& line : split->warnings())
      if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
  }
  return lines;
}

std::optional<std::int64_t> TrainingData::epoch_micro_steps() const {
  if (!config_.train.epochs) return {};
  std::int64_t count = 0;
  for (std::int64_t epoch = 0; epoch < *config_.train.epochs; ++epoch)
    if (__builtin_add_overflow(count, batches_in_epoch(epoch), &count)) return std::numeric_limits<std::int64_t>::max();
  return count;
}

TrainingState TrainingData::state_at(std::int64_t epoch, std::int64_t batch) const {
  TrainingState state{.first_batch = batches_in_epoch(epoch) * epoch + batch, .epoch = epoch, .batch = batch};
  skip_empty_epochs(state.epoch, state.batch);
  return state;
}

void TrainingData::advance(TrainingState& state) const {
  state.done_epoch = state.epoch;
  state.done_batch = state.batch;
  ++state.micro_step;
  ++state.batch;
  skip_empty_epochs(state.epoch, state.batch);
}

// At the end of an epoch moves to the next epoch with a batch. Later epochs skip their first bytes and can be too short for a batch even
// if epoch 0 is not.
void TrainingData::skip_empty_epochs(std::int64_t& epoch, std::int64_t& batch) const {
  const std::int64_t first = epoch;
  while (batch >= batches_in_epoch(epoch)) {
    ++epoch;
    batch = 0;
    require(epoch - first <= config_.input_seq_len, "train: expected a batch of training data in epoch ", first, " or later, there is none");
  }
}

Prefetcher::NextPlace TrainingData::places(const TrainingState& state, std::int64_t count) const {
  return [this, epoch = state.epoch, batch = state.batch, left = count]() mutable -> std::optional<BatchPlace> {
    if (left-- <= 0) return {};
    skip_empty_epochs(epoch, batch);
    const std::int64_t size = config_.train.batch_size;
    BatchPlace place{.epoch = epoch, .first = batch++ * size, .count = size};
    if (config_.train.shuffle_train)
      place.shuffle = RandomKey{static_cast<std::uint64_t>(config_.train.seed), site_of("shuffle"), static_cast<std::uint32_t>(epoch)};
    return place;
  };
}

}  // namespace mblm
