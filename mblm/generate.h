// Continuing a byte sequence, one id at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "mblm/model.h"

namespace mblm {

struct SamplingOptions {
  double temperature = 0;         // 0: greedy; the lowest id wins among equal logits
  std::int64_t top_k = 0;         // 0: all
  double top_p = 1;               // smallest set of ids with at least this probability
  double min_p = 0;               // ids with less than this share of the likeliest one's probability are left out
  double repetition_penalty = 1;  // logits of ids that stand in the sequence are divided (positive) or multiplied by it
  std::vector<std::int64_t> banned{};
  std::vector<std::int64_t> stop{};  // ids that end the sequence; the id is part of the result
  std::uint64_t seed = 0;
};

// Chooses an id from logits (V). Random numbers are a function of (seed, position, sequence).
std::int64_t sample(std::span<const float> logits, std::span<const std::int64_t> sequence, const SamplingOptions& options, std::int64_t position,
                    std::int64_t sequence_index = 0);

// Continues `prompt` by at most `count` ids (unset: until the context is full) and gives them without the prompt.
// `on_id` sees each id as it comes and ends the generation by returning false. Throws ValueError when the prompt has ids
// outside the vocabulary, or when more is asked than a fixed context holds.
std::vector<std::int64_t> generate(const Model& model, std::span<const std::int64_t> prompt, std::optional<std::int64_t> count,
                                   const SamplingOptions& options, const std::function<bool(std::int64_t id)>& on_id = {},
                                   std::int64_t sequence_index = 0);

}  // namespace mblm
