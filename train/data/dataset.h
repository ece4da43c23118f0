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

namespace mblm {

enum class Split { Train, Validation, Test };
std::string_view name_of(Split split);  // "train", "validation", "test"

// The answer to a question in a sequence: ids [first, first + count). A model's answer is right when it is all of them; a token
// that starts an answer is given and not part of it, one that ends it is. `kind` is the kind of question.
struct Answer {
  std::string kind = {};
  std::int64_t first = 0, count = 0;
};

// The sequences of one split, or of one worker's share of it. Nothing is remembered between calls: what is read is a
// function of (epoch, index), so a run can go on from any place.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual std::int64_t size(std::int64_t epoch) const = 0;  // sequences in an epoch; at least one in epoch 0
  virtual std::int64_t length() const = 0;                  // ids in each sequence
  virtual bool has_loss_mask() const { return false; }
  // Writes sequence `index` of an epoch: `length` ids, and as many loss weights when there is a mask (else the span is
  // empty). Throws FileError, ValueError for an id outside the vocabulary. Several threads may read at once.
  virtual void read(std::int64_t epoch, std::int64_t index, std::span<std::int64_t> ids, std::span<float> loss_mask) const = 0;

  // What a person should know of the files, such as what was left out: a line each, beginning with the path.
  virtual std::vector<std::string> warnings() const { return {}; }

  // For a masked language model: the sequences have mask tokens, and labels that say what belongs there.
  virtual bool has_labels() const { return false; }
  // Writes the labels of sequence `index`: ids, or no_label (mblm/model.h). Only called where there are labels.
  virtual void read_labels(std::int64_t, std::int64_t, std::span<std::int64_t>) const {}

  // For questions: the sequences have answers, which an evaluation counts by kind.
  virtual bool has_answers() const { return false; }
  // Does what `read` does, and says where the answer is. Only called where there are answers.
  virtual Answer read_with_answer(std::int64_t epoch, std::int64_t index, std::span<std::int64_t> ids, std::span<float> loss_mask) const {
    read(epoch, index, ids, loss_mask);
    return {};
  }
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

struct Batch {
  Tensor ids;                        // (B, L) int64, on the CPU
  Tensor loss_mask;                  // (B, L) float32, on the CPU; undefined for ones
  Tensor labels = {};                // (B, L) int64, on the CPU; undefined without labels
  std::vector<Answer> answers = {};  // B, none without answers
};

// Sequences [first, first + count) of an epoch, in the shuffled order of `shuffle` when it is given.
Batch read_batch(const Dataset& dataset, std::int64_t epoch, std::int64_t first, std::int64_t count, const std::optional<RandomKey>& shuffle = {});

}  // namespace mblm
