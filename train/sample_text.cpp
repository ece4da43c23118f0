#include "train/sample_text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "engine/autograd.h"
#include "mblm/generate.h"
#include "train/step_runner.h"

namespace mblm {
namespace {

constexpr std::int64_t ids_shown = 64, masked_ids_shown = 128;

using Ids = std::span<const std::int64_t>;

std::string quoted(Ids ids) { return concat_text('"', printable_text(ids), '"'); }

// The number of ids, at most `wanted`, to generate after `prompt` ids. Each one takes a forward pass over the ids before it, padded to
// whole patches.
std::int64_t affordable_ids(const ModelConfig& config, std::int64_t prompt, std::int64_t wanted, std::int64_t most_ids) {
  const std::int64_t patch = config.patch_bytes(0);
  const auto work = [&](std::int64_t count) { return count * ((prompt + count + patch - 1) / patch * patch); };
  while (wanted > 1 && work(wanted) > most_ids) --wanted;
  return wanted;
}

std::string continued(const Model& model, Ids sequence, RandomKey key, std::int64_t most_ids) {
  const auto length = std::ssize(sequence), prompt = std::min(ids_shown, length / 2);
  const std::int64_t count = affordable_ids(model.config(), prompt, std::min(ids_shown, length - prompt), most_ids);
  const Ids before = sequence.first(static_cast<std::size_t>(prompt));
  const SamplingOptions options{.temperature = 1, .seed = key.seed};
  return concat_text("after ", quoted(before), ": ", quoted(generate(model, before, count, options, {}, key.step)));
}

std::string answered(const Model& model, Ids sequence, const Answer& answer, std::int64_t most_ids) {
  const Ids before = sequence.first(static_cast<std::size_t>(answer.first));
  const Ids expected = sequence.subspan(before.size(), static_cast<std::size_t>(answer.count));
  const std::int64_t count = affordable_ids(model.config(), answer.first, answer.count, most_ids);
  const Ids shown = before.last(std::min(before.size(), static_cast<std::size_t>(ids_shown)));
  return concat_text("after ", quoted(shown), ": ", quoted(generate(model, before, count, {})), ", expected ", quoted(expected));
}

std::string filled_in(const Model& model, Ids sequence, Ids labels) {
  const auto count = std::min(masked_ids_shown, std::ssize(sequence));
  const auto first_of = [count](Ids ids) { return std::vector<std::int64_t>(ids.begin(), ids.begin() + count); };
  const std::vector<std::int64_t> masked = first_of(sequence);
  const Batch batch{.ids = from_values<std::int64_t>(Shape{1, count}, masked), .labels = from_values<std::int64_t>(Shape{1, count}, first_of(labels))};
  const Tensor& values = model.parameters().values();
  const ModelInput input = to_device(prepare_input(model.config(), batch), values.device(), values.dtype());
  const std::vector<float> logits = model.loss(input).logits.to_vector_as<float>();
  const auto width = static_cast<std::ptrdiff_t>(model.config().num_tokens);
  std::vector<std::int64_t> filled = masked;
  for (std::size_t i = 0; i < filled.size(); ++i) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i) * width;
    if (labels[i] != no_label) filled[i] = std::max_element(row, row + width) - row;
  }
  return concat_text("of ", quoted(masked), ": ", quoted(filled));
}

}  // namespace

std::string printable_text(Ids ids) {
  std::string text;
  for (const std::int64_t id : ids) {
    std::array<char, 32> escape{};
    if (id == '"' || id == '\\') std::snprintf(escape.data(), escape.size(), "\\%c", static_cast<char>(id));
    else if (id >= ' ' && id <= '~') escape[0] = static_cast<char>(id);
    else if (id == '\n' || id == '\r' || id == '\t') std::snprintf(escape.data(), escape.size(), "\\%c", id == '\n' ? 'n' : id == '\r' ? 'r' : 't');
    else if (id >= 0 && id < 256) std::snprintf(escape.data(), escape.size(), "\\x%02x", static_cast<unsigned>(id));
    else std::snprintf(escape.data(), escape.size(), "\\{%lld}", static_cast<long long>(id));
    text += escape.data();
  }
  return text;
}

std::string sample_text(const Model& model, const Dataset& dataset, RandomKey key, std::int64_t most_ids) {
  const NoGradScope no_grad;
  const auto size = static_cast<std::uint64_t>(dataset.size(0));
  const auto index = static_cast<std::int64_t>(random_permutation(key, size, 0));
  const Batch batch = read_batch(dataset, {.first = index, .count = 1});
  const auto row = [](const Tensor& x) { return Ids(x.host_data<std::int64_t>(), static_cast<std::size_t>(x.numel())); };
  if (model.config().is_masked()) return filled_in(model, row(batch.ids), row(batch.labels));
  if (!batch.answers.empty()) return answered(model, row(batch.ids), batch.answers.front(), most_ids);
  return continued(model, row(batch.ids), key, most_ids);
}

}  // namespace mblm
