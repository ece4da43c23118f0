#include "mblm/generator.h"

#include <algorithm>
#include <utility>

#include "engine/inference.h"
#include "ops/concat_rows.h"
#include "ops/sequence.h"

namespace mblm {

SequenceState SequenceState::copy() const {
  SequenceState other = *this;
  for (State& state : other.stages) state = state.copy();
  return other;
}

// New bytes of a row.
struct Generator::Work {
  SequenceState* row;
  std::vector<std::int64_t> bytes;  // those of the open token of stage 0, then the new ones
  std::size_t next = 0;             // in `bytes`: the first token of the current stage that has not been processed
  std::int64_t tokens = 0;          // of the current stage to process

  // Tokens of a stage that have been processed, without the start token.
  std::int64_t done(int stage) const { return row->stages[static_cast<std::size_t>(stage)].lengths.front() - 1; }
};

Generator::Generator(const Model& model) : stages_(model) {}

Generator::Row Generator::join() {
  SequenceState empty;
  empty.stages.resize(static_cast<std::size_t>(stages_.last() + 1));
  empty.above.resize(empty.stages.size());
  begin_patch(empty, 0, {});
  const InferenceScope inference;
  empty.logits = stages_.model().to_logits(stages_.start_output(stages_.last())).to_vector_as<float>();
  const auto free = std::find(rows_.begin(), rows_.end(), nullptr);
  const auto row = static_cast<Row>(free - rows_.begin());
  if (free == rows_.end()) rows_.emplace_back();
  rows_[row] = std::make_unique<SequenceState>(std::move(empty));
  return row;
}

Generator::Row Generator::join(const SequenceState& state) {
  const Row row = join();
  restore(row, state);
  return row;
}

void Generator::leave(Row row) {
  at(row);
  rows_[row] = nullptr;
}

void Generator::restore(Row row, const SequenceState& state) {
  const std::size_t stages = at(row).stages.size();
  require<ValueError>(state.stages.size() == stages, "generate: expected the state of a model with ", stages, " stages, got ", state.stages.size());
  at(row) = state.copy();
}

SequenceState& Generator::at(Row row) const {
  require<ValueError>(row < rows_.size() && rows_[row] != nullptr, "generate: no row ", row);
  return *rows_[row];
}

void Generator::check(Row row, std::span<const std::int64_t> ids) const {
  const ModelConfig& config = stages_.config();
  for (const std::int64_t id : ids)
    require<ValueError>(id >= 0 && id < config.num_tokens, "generate: expected ids in [0, ", config.num_tokens, "), got ", id);
  const std::int64_t length = at(row).length + std::ssize(ids);
  require<ValueError>(!config.fixed_context() || length <= config.context(), "generate: expected at most ", config.context(),
                      " ids, the fixed context, got ", length);
}

void Generator::feed(Row row, std::span<const std::int64_t> ids) {
  check(row, ids);
  constexpr std::size_t piece = 1 << 16;  // ids that are copied at a time
  for (std::size_t begin = 0; begin < ids.size(); begin += piece) {
    const std::span<const std::int64_t> next = ids.subspan(begin, std::min(piece, ids.size() - begin));
    Work work{&at(row), at(row).open};
    work.bytes.insert(work.bytes.end(), next.begin(), next.end());
    run(std::span(&work, 1));
  }
}

void Generator::step(std::span<const Row> rows, std::span<const std::int64_t> ids) {
  require<ValueError>(rows.size() == ids.size(), "generate: expected one id for each of ", rows.size(), " rows, got ", ids.size());
  std::vector<Work> work;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    check(rows[i], ids.subspan(i, 1));
    require<ValueError>(std::find(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(i), rows[i]) == rows.begin() + static_cast<std::ptrdiff_t>(i),
                        "generate: row ", rows[i], " appears twice");
    Work& one = work.emplace_back(Work{&at(rows[i]), at(rows[i]).open});
    one.bytes.push_back(ids[i]);
  }
  if (!work.empty()) run(work);
}

void Generator::run(std::span<Work> work) {
  const InferenceScope inference;
  for (int n = 0; n <= stages_.last(); ++n) {
    advance_stage(n, work);
    if (n > 0) continue;
    for (Work& one : work) {  // the open token of stage 0
      one.row->length += std::ssize(one.bytes) - std::ssize(one.row->open);
      one.row->open.assign(one.bytes.begin() + static_cast<std::ptrdiff_t>(one.next), one.bytes.end());
    }
  }
}

// Processes the tokens of a stage whose bytes are known, except for the token that ends with the last byte: nothing depends on it
// before another byte comes. The local stage processes all bytes.
void Generator::advance_stage(int n, std::span<Work> work) {
  constexpr std::int64_t most_tokens = 512, most_bytes = 1 << 13;  // of a chunk: bounds the memory of a long prompt
  const std::int64_t patch = stages_.config().patch_bytes(n), chunk = std::clamp<std::int64_t>(most_bytes / patch, 1, most_tokens);
  for (Work& one : work) {
    // Stage 0 begins at its open token. The sequence of another stage begins there in the stage above.
    if (n > 0) one.next += static_cast<std::size_t>(one.done(n) * patch);
    const std::int64_t bytes = std::ssize(one.bytes) - static_cast<std::int64_t>(one.next);
    one.tokens = n == stages_.last() ? bytes : (bytes - 1) / patch;
  }
  while (true) {
    std::vector<Work*> ready;
    std::int64_t tokens = chunk;
    for (Work& one : work) {
      if (one.tokens == 0) continue;
      ready.push_back(&one);
      tokens = std::min(tokens, one.tokens);
    }
    if (ready.empty()) return;
    advance_tokens(n, ready, tokens);
  }
}

// Begins a new sequence of a stage, whose input from the stage above is `above`, and with it of all stages below.
void Generator::begin_patch(SequenceState& row, int stage, Tensor above) {
  for (int n = stage; n <= stages_.last(); ++n) {
    row.stages[static_cast<std::size_t>(n)] = stages_.after_start(n);
    row.above[static_cast<std::size_t>(n)] = n == stage ? std::move(above) : stages_.start_above(n);
  }
}

// Processes the next tokens of a stage, as many of each row.
void Generator::advance_tokens(int n, std::span<Work* const> work, std::int64_t tokens) {
  const auto stage = static_cast<std::size_t>(n);
  const std::int64_t bytes = tokens * stages_.config().patch_bytes(n), batch = std::ssize(work);
  std::vector<std::int64_t> ids;
  std::vector<Tensor> above;
  std::vector<State> states;
  for (Work* one : work) {
    const auto first = one->bytes.begin() + static_cast<std::ptrdiff_t>(one->next);
    ids.insert(ids.end(), first, first + static_cast<std::ptrdiff_t>(bytes));
    if (n > 0) above.push_back(one->row->above[stage].slice(one->done(n), one->done(n) + tokens));
    states.push_back(std::move(one->row->stages[stage]));
  }
  State state = State::joined(std::move(states));
  Tensor above_rows;
  if (n > 0) {
    above_rows = concat_rows(above);
    above_rows = above_rows.reshape(Shape{batch, tokens, above_rows.size(1)});
  }
  const Tensor outputs = stages_.advance(n, from_values<std::int64_t>(Shape{batch, bytes}, ids, stages_.device()), above_rows, state);
  states = State::split(std::move(state));
  for (std::size_t b = 0; b < work.size(); ++b) {
    work[b]->row->stages[stage] = std::move(states[b]);
    work[b]->next += static_cast<std::size_t>(bytes);
    work[b]->tokens -= tokens;
  }
  if (work.front()->tokens > 0) return;  // more tokens follow, of the same rows: feed() has one row, and step() one token of each
  const Tensor last = slice_sequence(outputs, tokens - 1, tokens).reshape(Shape{batch, outputs.size(2)});
  if (n == stages_.last()) {
    const std::vector<float> logits = stages_.model().to_logits(last).to_vector_as<float>();
    const std::ptrdiff_t width = std::ssize(logits) / batch;
    for (std::ptrdiff_t b = 0; b < batch; ++b)
      work[static_cast<std::size_t>(b)]->row->logits.assign(logits.begin() + b * width, logits.begin() + (b + 1) * width);
    return;
  }
  const Tensor next = stages_.model().hierarchy().to_next(n, last);
  for (std::size_t b = 0; b < work.size(); ++b) {
    const auto at = static_cast<std::int64_t>(b);
    begin_patch(*work[b]->row, n + 1, next.slice(at, at + 1).reshape(next.shape().without_first()));
  }
}

}  // namespace mblm
