// The model's prediction of each byte of a given sequence, many bytes at once, with the bits of the generator.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "mblm/inference_stages.h"

namespace mblm {

// Reads a sequence in chunks. All patches of a chunk are processed at once, each stage with all its sequences as one batch. Between chunks
// it keeps the state of stage 0 and the outputs for the next byte: its memory does not grow with the sequence, except for the keys and
// values of a Transformer in stage 0.
// The model must outlive the scorer, and its parameters must not change meanwhile.
class Scorer {
 public:
  // Throws ValueError for a masked language model.
  explicit Scorer(const Model& model);

  // The bytes of a chunk: a whole number of tokens of stage 0.
  std::int64_t chunk_bytes() const { return chunk_tokens_ * stages_.config().patch_bytes(0); }
  // The most bytes of a sequence: the context of a model with a fixed context, else no limit (the largest int64).
  std::int64_t most_bytes() const;

  std::int64_t vocabulary() const { return stages_.config().num_tokens; }

  // Processes the next ids of the sequence: chunk_bytes() of them, or fewer at its end. Returns the logits that predict each of them,
  // (n, V) in the dtype of the parameters, on the host. Throws ValueError for ids outside the vocabulary, beyond most_bytes(), and
  // after the end.
  Tensor next(std::span<const std::int64_t> ids);
  std::int64_t length() const { return length_; }
  // Begins a new sequence.
  void restart();

 private:
  Tensor local_outputs(const Tensor& ids, std::int64_t tokens);

  const InferenceStages stages_;
  const std::int64_t chunk_tokens_;
  State state_;        // of stage 0, after its start token and all tokens but the last
  Tensor last_ids_;    // (1, patch) the last token of stage 0; undefined at the start
  Tensor predictor_;   // (1, D) the local output that predicts the next byte
  std::int64_t length_ = 0;
  bool ended_ = false;
};

// Calls `on_byte(offset, id, log_probability)` for each id of `ids` in order; log_probability in nats. A sequence that exceeds a fixed context
// is scored in windows that do not overlap, each from the start token.
void score(Scorer& scorer, std::span<const std::int64_t> ids, const std::function<void(std::int64_t offset, std::int64_t id, double log_probability)>& on_byte);

}  // namespace mblm
