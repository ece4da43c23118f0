#include "mblm/generate.h"

#include <algorithm>

namespace mblm {

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

std::vector<std::int64_t> generate(Generator& generator, Generator::Row row, std::int64_t count, Sampler& sampler, const OnId& on_id) {
  std::vector<std::int64_t> ids;
  for (std::int64_t n = 0; n < count; ++n) {
    if (n > 0) generator.step(std::span(&row, 1), std::span(&ids.back(), 1));
    ids.push_back(sampler.choose(generator.logits(row), generator.length(row)));
    const bool goes_on = !on_id || on_id(ids.back(), generator.logits(row));
    if (!goes_on || sampler.stops_at(ids.back())) break;
  }
  return ids;
}

std::vector<std::int64_t> generate(const Model& model, std::span<const std::int64_t> prompt, std::optional<std::int64_t> count,
                                   const SamplingOptions& options, const std::function<bool(std::int64_t id)>& on_id, std::int64_t sequence_index) {
  Generator generator(model);
  const std::int64_t most = ids_to_add(model.config(), std::ssize(prompt), count);
  Sampler sampler(options, model.config().num_tokens, sequence_index);
  sampler.see(prompt);
  const Generator::Row row = generator.join();
  generator.feed(row, prompt);
  return generate(generator, row, most, sampler, on_id ? OnId([&](std::int64_t id, std::span<const float>) { return on_id(id); }) : OnId());
}

}  // namespace mblm
