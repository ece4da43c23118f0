#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/autograd.h"
#include "train/prefetch.h"
#include "train/step_runner.h"

namespace mblm {
namespace {

bool is_space(std::int64_t id) { return id == ' ' || (id >= '\t' && id <= '\r'); }

double sum_of(const Tensor& elements) {
  double sum = 0;
  const auto add = [&](const auto& values) {
    for (const auto value : values) sum += value;
  };
  if (elements.dtype() == DType::Float64) add(elements.to_vector<double>());
  else add(elements.to_vector<float>());
  return sum;
}

}  // namespace

double Evaluation::bits_per_byte() const { return mean_loss() / std::numbers::ln2; }
double Evaluation::word_perplexity() const { return std::exp(nats / static_cast<double>(words)); }

Evaluation evaluate(const Model& model, const Dataset& dataset, const EvaluationOptions& options) {
  const NoGradScope no_grad;
  const std::int64_t size = dataset.size(0), batches = std::min(options.max_batches, (size + options.batch_size - 1) / options.batch_size);
  Evaluation result;
  bool in_word = false;
  Prefetcher ahead(dataset, [&options, size, batches, i = std::int64_t{0}]() mutable -> std::optional<BatchPlace> {
    if (i == batches) return {};
    const std::int64_t first = i++ * options.batch_size;
    return BatchPlace{0, first, std::min(options.batch_size, size - first), options.shuffle};
  });
  for (; result.batches < batches; ++result.batches) {
    if (options.should_stop && options.should_stop()) {
      result.stopped = true;
      return result;
    }
    const Batch batch = ahead.next().value();
    const Model::Loss loss = batch_loss(model, batch);
    result.sequences += batch.ids.size(0);
    result.sum_of_batch_losses += loss.loss.item();
    result.nats += sum_of(loss.elements);
    result.bytes += static_cast<std::int64_t>(loss.count.item());
    for (const std::int64_t id : std::span(batch.ids.data<std::int64_t>(), static_cast<std::size_t>(batch.ids.numel()))) {
      result.words += !is_space(id) && !in_word;
      in_word = !is_space(id);
    }
    if (options.on_progress) options.on_progress(result.batches + 1, batches);
  }
  return result;
}

}  // namespace mblm
