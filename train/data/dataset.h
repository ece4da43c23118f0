// Data sets: sequences of ids in epochs. Built in are clevr, files, pg19 and pg19masked. Embedding programs add data sets by deriving
// Dataset and registering it under an id that a config can name (io.dataset_id).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/random.h"
#include "engine/tensor.h"
#include "mblm/config/config.h"
#include "mblm/model_input.h"

namespace mblm {

enum class Split { Train, Validation, Test, All };  // All: everything, for data sets of files
std::string_view name_of(Split split);  // "train", "validation", "test", "all"

// The answer to a question in a sequence: ids [first, first + count). A model's answer is correct if all ids match. The answer
// includes its end token but not its start token, which the model is given. `kind` is the kind of question.
struct Answer {
  std::string kind = {};
  std::int64_t first = 0, count = 0;
};

// The optional parts of a data set's sequences.
struct SequenceParts {
  bool loss_mask = false;  // a loss weight for each id; without it all ids have weight 1
  bool labels = false;     // for masked language models: ids contain mask tokens, labels contain the original ids
  bool answers = false;    // for questions: an evaluation counts correct answers by kind
};

// The destination of a sequence. Each part of the data set has `length` elements; the other parts are empty or null.
struct Sequence {
  std::span<std::int64_t> ids;
  std::span<float> loss_mask = {};
  std::span<std::int64_t> labels = {};  // ids, or no_label (mblm/model_input.h)
  Answer* answer = nullptr;
};

// The sequences of one split, or of one worker's share of it. A data set has no mutable state: a sequence is a function of (epoch,
// index), so that a run can resume at any place.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual std::int64_t size(std::int64_t epoch) const = 0;  // number of sequences in an epoch; at least one in epoch 0
  virtual std::int64_t length() const = 0;                  // number of ids in each sequence
  virtual SequenceParts parts() const { return {}; }        // must return the same value at each call
  // Writes sequence `index` of an epoch to `out`. Must be thread-safe. Throws FileError, and ValueError for an id outside the
  // vocabulary.
  virtual void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const = 0;

  // What the data set reads, in a few words for the header of a run: `3600000 bytes of 12 files`. Empty: unknown.
  virtual std::string describe() const { return {}; }
  // Warnings for the user, e.g. about skipped files: one line each, starting with the path.
  virtual std::vector<std::string> warnings() const { return {}; }

  // A text that differs for other data: sizes and a checksum of samples, without paths and times. The default reads 64 sequences.
  virtual std::string fingerprint() const;
  // The share of ids that equal the padding id, for a data set that adds no padding itself; else 0.
  virtual double padding_share() const { return 0; }
  // If the split is a part of the bytes of a file or folder: `PATH: bytes 18000 to 18999 of 20000`; else empty.
  virtual std::string extent() const { return {}; }
};

// How ids of sequences are masked for a masked language model.
struct Masking {
  std::int64_t mask_token_id = 0;
  double probability = 0;  // that an id is masked
};

// The arguments for opening a data set.
struct DatasetRequest {
  std::filesystem::path path = {};                    // io.dataset_dir
  std::shared_ptr<const std::string> arguments = {};  // io.dataset_args as YAML text; null without arguments
  Split split = Split::Train;
  std::int64_t length = 0;                       // number of ids in a sequence
  std::int64_t num_tokens = 256, pad_token_id = 0;
  std::optional<Masking> masking = {};           // set for a masked language model
  std::uint64_t seed = 0;
  std::int64_t worker = 0, workers = 1;          // select the worker's share of the training split; other splits are not divided
};

// The masking of a config; nothing if its model is not masked.
std::optional<Masking> masking_of(const RunConfig& config);

// The data sets that a config can name. Embedding programs create a registry, add their data sets and pass it on.
class DatasetRegistry {
 public:
  // Returns null if the data set has no test split. The other splits are required.
  using Make = std::function<std::unique_ptr<Dataset>(const DatasetRequest&)>;

  DatasetRegistry();  // clevr, files, pg19, pg19masked
  // Throws ValueError for a duplicate id.
  void add(const std::string& dataset_id, Make make);
  bool has(const std::string& dataset_id) const { return makers_.count(dataset_id) != 0; }
  // Throws ConfigError for an unknown id, FileError for missing or too short files.
  std::unique_ptr<Dataset> make(const std::string& dataset_id, const DatasetRequest& request) const;
  std::vector<std::string> ids() const;  // in order of name

 private:
  std::map<std::string, Make> makers_;
};

// The sequences of a batch: [first, first + count) of an epoch, in an order shuffled by `shuffle` if it is set.
struct BatchPlace {
  std::int64_t epoch = 0, first = 0, count = 0;
  std::optional<RandomKey> shuffle = {};
};

// All tensors are on the CPU.
struct Batch {
  Tensor ids = {};                   // (B, L) int64
  Tensor loss_mask = {};             // (B, L) float32; undefined means ones
  Tensor labels = {};                // (B, L) int64; undefined without labels
  std::vector<Answer> answers = {};  // B answers; empty without answers
  ModelInput input = {};             // the input of a model's loss, if the batch is read for a model
  bool has_loss = true;              // whether a byte counts in that loss; without one (all padding, nothing masked) the loss is 0
};

Batch read_batch(const Dataset& dataset, const BatchPlace& place);
// Reads a batch for a model, prepares its `input` and sets has_loss. Throws also as prepare_input.
Batch read_batch(const Dataset& dataset, const BatchPlace& place, const ModelConfig& model);

// Prepares the `input` of a batch. A masked language model attends to all ids except padding. Throws ValueError if a masked language
// model gets no labels, and as prepare_input of mblm/model_input.h.
ModelInput prepare_input(const ModelConfig& model, const Batch& batch);

}  // namespace mblm
