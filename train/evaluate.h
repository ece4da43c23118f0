// What a model makes of a split.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>

#include "mblm/model.h"
#include "train/data/dataset.h"
#include "train/workers.h"

namespace mblm {

struct EvaluationOptions {
  std::int64_t batch_size = 1;
  std::int64_t max_batches = std::numeric_limits<std::int64_t>::max();
  std::optional<RandomKey> shuffle = {};
  Workers workers = Workers();             // batch i is worker (i mod W)'s
  std::function<bool()> should_stop = {};  // asked before each batch, all workers stop when one says so; may be empty, on all of them
  std::function<void(std::int64_t done, std::int64_t batches)> on_progress = {};  // after each batch of this worker; may be empty
};

// How many answers a model would give right.
struct AnswerScore {
  std::int64_t answers = 0, correct = 0;
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(answers); }
};

struct Evaluation {
  std::int64_t batches = 0, sequences = 0;
  double sum_of_batch_losses = 0;
  double nats = 0;            // sum of the losses of all bytes
  std::int64_t bytes = 0;     // that count: their loss is not zero
  std::int64_t correct = 0;   // of these, the bytes that a masked language model finds likeliest
  std::int64_t words = 0;     // separated by white space, a word that two sequences share counted once
  // By kind of question, where the data set has answers. A model that continues greedily gives an answer exactly when, with
  // the answer before it, it finds each of its ids the likeliest, the first of equals: no generation is needed to tell.
  std::map<std::string, AnswerScore> answers = {};
  bool stopped = false;

  double mean_batch_loss() const { return sum_of_batch_losses / static_cast<double>(batches); }  // what training validates with
  double mean_loss() const { return nats / static_cast<double>(bytes); }                         // nats per byte
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(bytes); }  // of a masked language model
  AnswerScore all_answers() const;
  double bits_per_byte() const;
  double word_perplexity() const;  // exp(nats / words)
};

// The whole of epoch 0, the last batch shorter where sequences are left over. Needs no gradients, and has no dropout. Sums go
// in the order of the batches: the same bits on each worker, and with any number of them.
Evaluation evaluate(const Model& model, const Dataset& dataset, const EvaluationOptions& options);

}  // namespace mblm
