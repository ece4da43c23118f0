// Data sets: sequences of ids, by epoch. Built in are clevr, files, pg19 and pg19masked; an embedding program adds its own by
// deriving Dataset and registering it under an id, which a config then names (io.dataset_id).
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

enum class Split { Train, Validation, Test };
std::string_view name_of(Split split);  // "train", "validation", "test"

// The answer to a question in a sequence: ids [first, first + count). A model's answer is right when it is all of them; a token
// that starts an answer is given and not part of it, one that ends it is. `kind` is the kind of question.
struct Answer {
  std::string kind = {};
  std::int64_t first = 0, count = 0;
};

// What the sequences of a data set have beside their ids.
struct SequenceParts {
  bool loss_mask = false;  // a loss weight for each id; without it all count alike
  bool labels = false;     // for a masked language model: the ids have mask tokens, and labels say what belongs there
  bool answers = false;    // for questions: an evaluation counts the answers by kind
};

// Where a data set writes a sequence: `length` of each part that it has. The parts that it does not have are empty, or null.
struct Sequence {
  std::span<std::int64_t> ids;
  std::span<float> loss_mask = {};
  std::span<std::int64_t> labels = {};  // ids, or no_label (mblm/model_input.h)
  Answer* answer = nullptr;
};

// The sequences of one split, or of one worker's share of it. Nothing is remembered between calls: what is read is a
// function of (epoch, index), so a run can go on from any place.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual std::int64_t size(std::int64_t epoch) const = 0;  // sequences in an epoch; at least one in epoch 0
  virtual std::int64_t length() const = 0;                  // ids in each sequence
  virtual SequenceParts parts() const { return {}; }        // the same at each call
  // Writes sequence `index` of an epoch. Throws FileError, ValueError for an id outside the vocabulary. Several threads may
  // read at once.
  virtual void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const = 0;

  // What a person should know of the files, such as what was left out: a line each, beginning with the path.
  virtual std::vector<std::string> warnings() const { return {}; }
};

// How the sequences of a masked language model lose ids.
struct Masking {
  std::int64_t mask_token_id = 0;
  double probability = 0;  // of each id
};

// What a data set is made from.
struct DatasetRequest {
  std::filesystem::path path = {};                    // io.dataset_dir
  std::shared_ptr<const std::string> arguments = {};  // io.dataset_args as YAML text; null: none
  Split split = Split::Train;
  std::int64_t length = 0;                       // ids in one sequence
  std::int64_t num_tokens = 256, pad_token_id = 0;
  std::optional<Masking> masking = {};           // set for a masked language model
  std::uint64_t seed = 0;
  std::int64_t worker = 0, workers = 1;          // the share of the training split; the other splits are not cut
};

// The masking that a config asks for, if it does.
std::optional<Masking> masking_of(const RunConfig& config);

// The data sets that a config can name. A value, not a global: an embedding program makes one, adds its own and passes it on.
class DatasetRegistry {
 public:
  // Gives null when the data set has no such split, which only the test split may be.
  using Make = std::function<std::unique_ptr<Dataset>(const DatasetRequest&)>;

  DatasetRegistry();  // clevr, files, pg19, pg19masked
  // Throws ValueError when the id is there already.
  void add(const std::string& dataset_id, Make make);
  bool has(const std::string& dataset_id) const { return makers_.count(dataset_id) != 0; }
  // Throws ConfigError for an unknown id, FileError for files that are missing or too short.
  std::unique_ptr<Dataset> make(const std::string& dataset_id, const DatasetRequest& request) const;
  std::vector<std::string> ids() const;  // in order of name

 private:
  std::map<std::string, Make> makers_;
};

// Which sequences a batch has: [first, first + count) of an epoch, in the shuffled order of `shuffle` when it is given.
struct BatchPlace {
  std::int64_t epoch = 0, first = 0, count = 0;
  std::optional<RandomKey> shuffle = {};
};

// All tensors are on the CPU.
struct Batch {
  Tensor ids = {};                   // (B, L) int64
  Tensor loss_mask = {};             // (B, L) float32; undefined for ones
  Tensor labels = {};                // (B, L) int64; undefined without labels
  std::vector<Answer> answers = {};  // B, none without answers
  ModelInput input = {};             // what a model's loss is computed from, where the batch is read for a model
};

Batch read_batch(const Dataset& dataset, const BatchPlace& place);
// For a model: with `input`. Throws as prepare_input too.
Batch read_batch(const Dataset& dataset, const BatchPlace& place, const ModelConfig& model);

// The `input` of a batch. A masked language model attends to all ids but padding. Throws ValueError when such a model gets no
// labels, and what prepare_input of mblm/model_input.h throws.
ModelInput prepare_input(const ModelConfig& model, const Batch& batch);

}  // namespace mblm
