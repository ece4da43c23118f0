// Generation: continues a byte sequence, one id at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "mblm/generator.h"
#include "mblm/sample.h"

namespace mblm {

// The most ids that generate() adds after `prompt` ids: `count`, or, if unset, until the context is full. Throws ValueError if prompt
// and count exceed a fixed context.
std::int64_t ids_to_add(const ModelConfig& config, std::int64_t prompt, std::optional<std::int64_t> count);

// Continues `prompt` by at most `count` ids (unset: until the context is full). Returns the new ids without the prompt. `on_id` is
// called for each new id and ends the generation by returning false. Throws ValueError for prompt ids outside the vocabulary, and
// if prompt and `count` exceed a fixed context.
std::vector<std::int64_t> generate(const Model& model, std::span<const std::int64_t> prompt, std::optional<std::int64_t> count,
                                   const SamplingOptions& options, const std::function<bool(std::int64_t id)>& on_id = {},
                                   std::int64_t sequence_index = 0);

// Continues the sequence of a row, at the position that the row has, whose ids the sampler has seen. `on_id` also gets the logits that
// the id was chosen from. Returns the new ids. The last of them has not been processed: the row has the ids before it.
using OnId = std::function<bool(std::int64_t id, std::span<const float> logits)>;
std::vector<std::int64_t> generate(Generator& generator, Generator::Row row, std::int64_t count, Sampler& sampler, const OnId& on_id = {});

}  // namespace mblm
