#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>
#include <sstream>
#include <vector>

#include "engine/autograd.h"
#include "train/data/prefetch.h"
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

using Answers = std::map<std::string, AnswerScore>;

void count_answers(Answers& to, const Model::Loss& loss, const Batch& batch) {
  const std::int64_t length = batch.ids.size(1);
  const Tensor logits = loss.logits.reshape(Shape{batch.ids.numel(), loss.logits.size(2)});
  for (std::int64_t i = 0; i < std::ssize(batch.answers); ++i) {
    const auto& [kind, first, count] = batch.answers[static_cast<std::size_t>(i)];
    const std::int64_t row = i * length + first;
    const std::span<const std::int64_t> ids(batch.ids.host_data<std::int64_t>() + row, static_cast<std::size_t>(count));
    AnswerScore& score = to[kind];
    ++score.answers;
    score.correct += count_likeliest(logits.slice(row, row + count), ids) == count;
  }
}

// What a batch tells; workers exchange it byte by byte.
struct BatchResult {
  double loss = 0, nats = 0;
  std::int64_t sequences = 0, bytes = 0, correct = 0;
  std::int64_t words = 0;                        // one that goes on from the batch before included
  bool begins_in_word = false, ends_in_word = false;
};

void count_words(const Tensor& ids, BatchResult& result) {
  bool in_word = false;
  const std::span<const std::int64_t> all(ids.host_data<std::int64_t>(), static_cast<std::size_t>(ids.numel()));
  for (const std::int64_t id : all) {
    result.words += !is_space(id) && !in_word;
    in_word = !is_space(id);
  }
  result.begins_in_word = !is_space(all.front());
  result.ends_in_word = in_word;
}

BatchResult evaluate_batch(const Model& model, const Batch& batch, Answers& answers) {
  const Model::Loss loss = batch_loss(model, batch);
  BatchResult result{.loss = loss.loss.item(),
                     .nats = sum_of(loss.elements),
                     .sequences = batch.ids.size(0),
                     .bytes = static_cast<std::int64_t>(loss.count.item())};
  if (model.config().is_masked()) result.correct = correct_predictions(loss, batch.labels);
  else count_answers(answers, loss, batch);
  count_words(batch.ids, result);
  return result;
}

void add(Evaluation& sum, const BatchResult& batch, bool in_word) {
  ++sum.batches;
  sum.sequences += batch.sequences;
  sum.sum_of_batch_losses += batch.loss;
  sum.nats += batch.nats;
  sum.bytes += batch.bytes;
  sum.correct += batch.correct;
  sum.words += batch.words - (in_word && batch.begins_in_word);
}

// `ANSWERS CORRECT LENGTH KIND` for each kind.
std::string text_of(const Answers& answers) {
  std::ostringstream text;
  for (const auto& [kind, score] : answers) text << score.answers << ' ' << score.correct << ' ' << kind.size() << ' ' << kind;
  return std::move(text).str();
}

void add(Answers& sum, const std::string& text) {
  std::istringstream in(text);
  AnswerScore score;
  for (std::size_t length = 0; in >> score.answers >> score.correct >> length;) {
    std::string kind(length, ' ');
    in.ignore().read(kind.data(), static_cast<std::streamsize>(length));
    sum[kind].answers += score.answers;
    sum[kind].correct += score.correct;
  }
}

// The batches that the workers were dealt, in their own order.
Evaluation sum_in_order(const std::vector<std::vector<BatchResult>>& dealt) {
  Evaluation sum;
  bool in_word = false;
  for (std::size_t i = 0; i / dealt.size() < dealt[i % dealt.size()].size(); ++i) {
    const BatchResult& batch = dealt[i % dealt.size()][i / dealt.size()];
    add(sum, batch, in_word);
    in_word = batch.ends_in_word;
  }
  return sum;
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
  const Workers& workers = options.workers;
  const std::int64_t size = dataset.size(0), batches = std::min(options.max_batches, (size + options.batch_size - 1) / options.batch_size);
  Prefetcher ahead(dataset, [&options, size, batches, i = std::int64_t{workers.rank()}]() mutable -> std::optional<BatchPlace> {
    if (i >= batches) return {};
    const std::int64_t first = i * options.batch_size;
    i += options.workers.size();
    return BatchPlace{0, first, std::min(options.batch_size, size - first), options.shuffle};
  });
  std::vector<BatchResult> results;
  Answers answers;
  bool stopped = false;
  for (std::int64_t first = 0; first < batches && !stopped; first += workers.size()) {
    stopped = options.should_stop && workers.any(options.should_stop());
    const std::int64_t i = first + workers.rank();
    if (stopped || i >= batches) continue;
    results.push_back(evaluate_batch(model, ahead.next().value(), answers));
    if (options.on_progress) options.on_progress(i + 1, batches);
  }
  Evaluation sum = sum_in_order(workers.exchange_lists(results));
  for (const std::string& text : workers.exchange(text_of(answers))) add(sum.answers, text);
  sum.stopped = stopped;
  return sum;
}

}  // namespace mblm
