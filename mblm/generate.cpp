#include "mblm/generate.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"

namespace mblm {
namespace {

void check_ids(const char* what, std::span<const std::int64_t> ids, std::int64_t vocabulary) {
  for (const std::int64_t id : ids)
    require<ValueError>(id >= 0 && id < vocabulary, "generate: ", what, ": expected ids in [0, ", vocabulary, "), got ", id);
}

void check_options(const SamplingOptions& o, std::int64_t vocabulary) {
  require<ValueError>(o.temperature >= 0 && std::isfinite(o.temperature), "generate: temperature: expected 0 or more, got ", o.temperature);
  require<ValueError>(o.top_k >= 0, "generate: top_k: expected 0 or more, got ", o.top_k);
  require<ValueError>(o.top_p > 0 && o.top_p <= 1, "generate: top_p: expected a number in (0, 1], got ", o.top_p);
  require<ValueError>(o.min_p >= 0 && o.min_p <= 1, "generate: min_p: expected a number in [0, 1], got ", o.min_p);
  require<ValueError>(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "generate: repetition_penalty: expected more than 0, got ",
                      o.repetition_penalty);
  check_ids("banned", o.banned, vocabulary);
  check_ids("stop", o.stop, vocabulary);
}

// The maximum number of ids to add. Throws ValueError if they exceed a fixed context.
std::int64_t ids_to_add(const ModelConfig& config, std::int64_t prompt, std::optional<std::int64_t> count) {
  const std::int64_t context = config.context(), room = std::max<std::int64_t>(0, context - prompt);
  require<ValueError>(!config.fixed_context() || prompt <= context, "generate: prompt: expected at most ", context, " ids, the fixed context, got ",
                      prompt);
  if (!count) return room;
  require<ValueError>(*count >= 0, "generate: count: expected 0 or more, got ", *count);
  require<ValueError>(!config.fixed_context() || *count <= room, "generate: count: the fixed context of ", context, " ids has room for ", room,
                      " after the prompt, got ", *count);
  return *count;
}

// Logits (V) of the id that follows `sequence`.
std::vector<float> next_logits(const Model& model, const std::vector<std::int64_t>& sequence) {
  const auto length = static_cast<std::int64_t>(sequence.size());
  const Tensor logits = model.logits(from_values(Shape{1, length}, sequence));  // (1, max(L, 1), V)
  const Tensor last = logits.reshape(Shape{logits.size(1), logits.shape().last()}).slice(logits.size(1) - 1, logits.size(1));
  return last.to_vector_as<float>();
}

}  // namespace

std::vector<std::int64_t> generate(const Model& model, std::span<const std::int64_t> prompt, std::optional<std::int64_t> count,
                                   const SamplingOptions& options, const std::function<bool(std::int64_t id)>& on_id, std::int64_t sequence_index) {
  const std::int64_t vocabulary = model.config().num_tokens;
  require<ValueError>(!model.config().is_masked(), "generate: expected a model that predicts the next byte, got a masked language model");
  check_ids("prompt", prompt, vocabulary);
  check_options(options, vocabulary);
  const std::int64_t wanted = ids_to_add(model.config(), static_cast<std::int64_t>(prompt.size()), count);

  const NoGradScope no_grad;
  std::vector<std::int64_t> sequence(prompt.begin(), prompt.end());
  for (std::int64_t n = 0; n < wanted; ++n) {
    const auto position = static_cast<std::int64_t>(sequence.size());
    sequence.push_back(sample(next_logits(model, sequence), sequence, options, position, sequence_index));
    const std::int64_t id = sequence.back();
    const bool stopped = std::find(options.stop.begin(), options.stop.end(), id) != options.stop.end();
    if ((on_id && !on_id(id)) || stopped) break;
  }
  return {sequence.begin() + static_cast<std::ptrdiff_t>(prompt.size()), sequence.end()};
}

}  // namespace mblm
