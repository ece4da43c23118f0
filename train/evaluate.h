// Evaluates a model on a split of a data set.
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
  // The loss of a batch in Evaluation::mean_batch_loss, instead of Model::loss. The other results remain those of Model::loss, which is
  // then computed as well.
  LossFunction loss = {};
  Workers workers = Workers();             // worker i mod W evaluates batch i
  std::function<bool()> should_stop = {};  // called before each batch; all workers stop if one returns true; set on all workers or none
  std::function<void(std::int64_t done, std::int64_t batches)> on_progress = {};  // called after each batch of this worker; optional
};

// The number of questions that a model answers correctly.
struct AnswerScore {
  std::int64_t answers = 0, correct = 0;
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(answers); }
};

struct Evaluation {
  std::int64_t batches = 0, sequences = 0;
  std::int64_t empty_batches = 0;  // in which no byte counts: all are padding, or none is masked
  double sum_of_batch_losses = 0;
  double nats = 0;           // sum of the losses of all bytes
  std::int64_t bytes = 0;    // bytes with a nonzero loss
  std::int64_t correct = 0;  // of these, bytes to which a masked language model assigns the highest probability
  std::int64_t words = 0;    // separated by white space; a word that spans two sequences counts once
  std::int64_t ids = 0;      // all ids
  std::int64_t not_text = 0; // of these, control characters other than white space, and bytes that are not UTF-8
  // By kind of question, for data sets with answers. An answer is correct if each of its ids has the highest probability (the lowest
  // id among equals) given the correct ids before it. This is equivalent to greedy generation of the answer.
  std::map<std::string, AnswerScore> answers = {};
  bool stopped = false;

  bool has_loss() const { return batches > empty_batches; }
  // The validation loss of training; requires has_loss(). Batches in which no byte counts are left out.
  double mean_batch_loss() const { return sum_of_batch_losses / static_cast<double>(batches - empty_batches); }
  double mean_loss() const { return nats / static_cast<double>(bytes); }                         // nats per byte
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(bytes); }  // for masked language models
  AnswerScore all_answers() const;
  double bits_per_byte() const;
  // Whether the ids are text of words: at most 1 % are not text, and a word has at most 40 bytes on average (others are base64 lines,
  // DNA, or a language without spaces).
  bool is_text() const;
  double word_perplexity() const;  // exp(nats / words); meaningless unless is_text()
};

// Evaluates epoch 0; the last batch may be smaller. Records no gradients and applies no dropout. Sums are in batch order, so that the
// result is bit-identical on each worker and for any number of workers.
Evaluation evaluate(const Model& model, const Dataset& dataset, const EvaluationOptions& options);

}  // namespace mblm
