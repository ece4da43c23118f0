#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "engine/autograd.h"
#include "train/prefetch.h"
#include "train/step_runner.h"

namespace mblm {
namespace {

bool is_space(std::int64_t id) { return id == ' ' || (id >= '\t' && id <= '\r'); }

// Calls f with the elements, in their own type.
template <class F>
auto with_elements(const Tensor& x, const F& f) {
  return x.dtype() == DType::Float64 ? f(x.to_vector<double>()) : f(x.to_vector<float>());
}

double sum_of(const Tensor& elements) {
  return with_elements(elements, [](const auto& values) { return std::accumulate(values.begin(), values.end(), 0.0); });
}

// Whether the logit of `id` is the largest, the first of equals. Never where one is not a number.
template <class T>
bool is_likeliest(std::span<const T> logits, std::int64_t id) {
  const auto at = logits.begin() + id;
  return std::all_of(logits.begin(), at, [&](T logit) { return logit < *at; }) && std::all_of(at, logits.end(), [&](T logit) { return logit <= *at; });
}

// How many of the ids are the likeliest in their rows (N, V). no_label never is.
std::int64_t count_likeliest(const Tensor& rows, std::span<const std::int64_t> ids) {
  return with_elements(rows, [&]<class T>(const std::vector<T>& logits) {
    const std::size_t width = logits.size() / std::max<std::size_t>(1, ids.size());
    std::int64_t count = 0;
    for (std::size_t i = 0; i < ids.size(); ++i) count += ids[i] != no_label && is_likeliest(std::span(logits).subspan(i * width, width), ids[i]);
    return count;
  });
}

// Of the bytes that count, those whose label is the likeliest id.
std::int64_t correct_predictions(const Model::Loss& loss, const Tensor& labels) {
  std::vector<std::int64_t> wanted = labels.to_vector<std::int64_t>();
  with_elements(loss.elements, [&](const auto& elements) {
    for (std::size_t i = 0; i < wanted.size(); ++i)
      if (elements[i] == 0) wanted[i] = no_label;
  });
  return count_likeliest(loss.logits, wanted);
}

void count_answers(Evaluation& to, const Model::Loss& loss, const Batch& batch) {
  const std::int64_t length = batch.ids.size(1);
  const Tensor logits = loss.logits.reshape(Shape{batch.ids.numel(), loss.logits.size(2)});
  for (std::int64_t i = 0; i < std::ssize(batch.answers); ++i) {
    const auto& [kind, first, count] = batch.answers[static_cast<std::size_t>(i)];
    const std::int64_t row = i * length + first;
    const std::span<const std::int64_t> ids(batch.ids.data<std::int64_t>() + row, static_cast<std::size_t>(count));
    AnswerScore& score = to.answers[kind];
    ++score.answers;
    score.correct += count_likeliest(logits.slice(row, row + count), ids) == count;
  }
}

}  // namespace

AnswerScore Evaluation::all_answers() const {
  AnswerScore all;
  for (const auto& [kind, score] : answers) {
    all.answers += score.answers;
    all.correct += score.correct;
  }
  return all;
}

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
    if (model.config().is_masked()) result.correct += correct_predictions(loss, batch.labels);
    else count_answers(result, loss, batch);
    for (const std::int64_t id : std::span(batch.ids.data<std::int64_t>(), static_cast<std::size_t>(batch.ids.numel()))) {
      result.words += !is_space(id) && !in_word;
      in_word = !is_space(id);
    }
    if (options.on_progress) options.on_progress(result.batches + 1, batches);
  }
  return result;
}

}  // namespace mblm
