#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/autograd.h"
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

// Of the bytes that count, those whose label has the largest logit, the first of equal ones.
std::int64_t correct_predictions(const Model::MaskedLoss& loss, const Tensor& labels) {
  const auto count = [&]<class T>(T) {
    const std::vector<T> logits = loss.logits.to_vector<T>(), elements = loss.elements.to_vector<T>();
    const std::vector<std::int64_t> wanted = labels.to_vector<std::int64_t>();
    const std::int64_t width = loss.logits.shape().last();
    std::int64_t correct = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto row = logits.begin() + static_cast<std::int64_t>(i) * width;
      correct += elements[i] != 0 && std::max_element(row, row + width) - row == wanted[i];
    }
    return correct;
  };
  return loss.logits.dtype() == DType::Float64 ? count(double{}) : count(float{});
}

}  // namespace

double Evaluation::bits_per_byte() const { return mean_loss() / std::numbers::ln2; }
double Evaluation::word_perplexity() const { return std::exp(nats / static_cast<double>(words)); }

Evaluation evaluate(const Model& model, const Dataset& dataset, const EvaluationOptions& options) {
  const NoGradScope no_grad;
  const std::int64_t size = dataset.size(0), batches = std::min(options.max_batches, (size + options.batch_size - 1) / options.batch_size);
  Evaluation result;
  bool in_word = false;
  for (; result.batches < batches; ++result.batches) {
    if (options.should_stop && options.should_stop()) {
      result.stopped = true;
      return result;
    }
    const std::int64_t first = result.batches * options.batch_size;
    const Batch batch = read_batch(dataset, 0, first, std::min(options.batch_size, size - first), options.shuffle);
    const Model::MaskedLoss loss = batch_loss(model, batch);
    result.sequences += batch.ids.size(0);
    result.sum_of_batch_losses += loss.loss.item();
    result.nats += sum_of(loss.elements);
    result.bytes += static_cast<std::int64_t>(loss.count.item());
    if (model.config().is_masked()) result.correct += correct_predictions(loss, batch.labels);
    for (const std::int64_t id : std::span(batch.ids.data<std::int64_t>(), static_cast<std::size_t>(batch.ids.numel()))) {
      result.words += !is_space(id) && !in_word;
      in_word = !is_space(id);
    }
    if (options.on_progress) options.on_progress(result.batches + 1, batches);
  }
  return result;
}

}  // namespace mblm
