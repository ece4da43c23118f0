// Generation with caches: each stage keeps the state of its sequence and advances when the bytes of its next token are known.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mblm/inference_stages.h"

namespace mblm {

// A sequence of bytes after some of them have been processed: what the model needs to predict the next one. Its memory is that of the
// states of the stages: keys and values of a Transformer, a window and a state of fixed size of a Mamba block; for stages below
// the first one those of the open patch alone.
struct SequenceState {
  std::int64_t length = 0;              // bytes that have been processed
  std::vector<std::int64_t> open;       // the last of them: those of the open token of stage 0, which is processed when it is full and
                                        // another byte comes
  std::vector<State> stages;            // one sequence each
  std::vector<Tensor> above;            // per stage: the output of the stage above for the open patch, (P, D); undefined for stage 0
  std::vector<float> logits;            // (V) of the next byte

  SequenceState copy() const;
};

// Generates several sequences at once. Sequences ("rows") join and leave at any time and have any lengths. The logits of a row have the
// same bits whatever the other rows are, however its bytes are split into calls, and with any number of threads.
// The model must outlive the generator, and its parameters must not change meanwhile. After an exception in feed() or step() the rows
// of that call can only leave or be restored.
class Generator {
 public:
  // A row that has joined. The numbers of rows that have left are used again.
  using Row = std::size_t;

  // Throws ValueError for a masked language model.
  explicit Generator(const Model& model);

  // Adds an empty sequence, or one that continues `state`.
  Row join();
  Row join(const SequenceState& state);
  void leave(Row row);

  // Processes the next bytes of a row: the stages above process whole tokens in chunks and the stages below the open patch only.
  // Throws ValueError for ids outside the vocabulary and beyond a fixed context; then nothing has changed.
  void feed(Row row, std::span<const std::int64_t> ids);
  // Processes one more byte of each of the rows, as one batch. Throws as feed(), and ValueError for a row that appears twice.
  void step(std::span<const Row> rows, std::span<const std::int64_t> ids);

  // The logits of the next byte, (V). They are valid until the row changes.
  std::span<const float> logits(Row row) const { return at(row).logits; }
  std::int64_t length(Row row) const { return at(row).length; }

  SequenceState snapshot(Row row) const { return at(row).copy(); }
  void restore(Row row, const SequenceState& state);

 private:
  struct Work;
  SequenceState& at(Row row) const;
  void check(Row row, std::span<const std::int64_t> ids) const;
  void begin_patch(SequenceState& row, int stage, Tensor above);
  void run(std::span<Work> work);
  void advance_stage(int stage, std::span<Work> work);
  void advance_tokens(int stage, std::span<Work* const> work, std::int64_t tokens);

  const InferenceStages stages_;
  std::vector<std::unique_ptr<SequenceState>> rows_;  // null: free
};

}  // namespace mblm
