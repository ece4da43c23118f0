// Generation: continues a byte sequence, one id at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "mblm/model.h"

namespace mblm {

struct SamplingOptions {
  double temperature = 0;         // 0: greedy; among equal logits the lowest id is chosen
  std::int64_t top_k = 0;         // 0: all
  double top_p = 1;               // keeps the smallest set of ids with at least this probability
  double min_p = 0;               // drops ids with less than this fraction of the highest probability
  double repetition_penalty = 1;  // divides positive logits and multiplies negative logits of ids in the sequence
  std::vector<std::int64_t> banned{};  // ids that are never chosen
  std::vector<std::int64_t> stop{};    // ids that end the sequence; the result includes the id
  std::uint64_t seed = 0;
};

// Chooses the id at `position` from logits (V). Random numbers are a function of (seed, position, sequence_index).
std::int64_t sample(std::span<const float> logits, std::span<const std::int64_t> sequence, const SamplingOptions& options, std::int64_t position,
                    std::int64_t sequence_index = 0);

// Continues `prompt` by at most `count` ids (unset: until the context is full). Returns the new ids without the prompt. `on_id` is
// called for each new id and ends the generation by returning false. Throws ValueError for prompt ids outside the vocabulary, and
// if prompt and `count` exceed a fixed context.
std::vector<std::int64_t> generate(const Model& model, std::span<const std::int64_t> prompt, std::optional<std::int64_t> count,
                                   const SamplingOptions& options, const std::function<bool(std::int64_t id)>& on_id = {},
                                   std::int64_t sequence_index = 0);

}  // namespace mblm
