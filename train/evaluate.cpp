#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>
#include <sstream>
#include <vector>

#include "engine/autograd.h"
#include "ops/argmax_matches.h"
#include "train/data/prefetch.h"

namespace mblm {
namespace {

bool is_space(std::int64_t id) { return id == ' ' || (id >= '\t' && id <= '\r'); }

// Counts the bytes with a nonzero loss whose label has the highest probability.
std::int64_t count_correct(const std::vector<double>& elements, const std::vector<std::uint8_t>& likeliest) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < elements.size(); ++i) count += elements[i] != 0 && likeliest[i] != 0;
  return count;
}

using Answers = std::map<std::string, AnswerScore>;

void count_answers(Answers& to, const Batch& batch, std::span<const std::uint8_t> likeliest) {
  for (std::size_t i = 0; i < batch.answers.size(); ++i) {
    const auto& [kind, first, count] = batch.answers[i];
    const auto ids = likeliest.subspan(i * static_cast<std::size_t>(batch.ids.size(1))).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    AnswerScore& score = to[kind];
    ++score.answers;
    score.correct += std::all_of(ids.begin(), ids.end(), [](std::uint8_t is_likeliest) { return is_likeliest != 0; });
  }
}

// The result of a batch. Workers exchange it as raw bytes.
struct BatchResult {
  double loss = 0, nats = 0;
  std::int64_t sequences = 0, bytes = 0, correct = 0;
  std::int64_t words = 0;  // including a word that continues from the previous batch
  std::int64_t ids = 0, not_text = 0;
  bool begins_in_word = false, ends_in_word = false;
};

bool is_control(std::int64_t id) { return (id < ' ' && !is_space(id)) || id == 0x7f; }
bool continues_utf8(std::int64_t id) { return id >= 0x80 && id < 0xc0; }

// Counts control characters and bytes that do not belong to a whole UTF-8 sequence. Ids above 255 are special ids, which count as text.
std::int64_t count_not_text(std::span<const std::int64_t> ids) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < ids.size();) {
    const std::int64_t id = ids[i++];
    if (id < 0x80 || id > 0xff) {
      count += is_control(id);
      continue;
    }
    const std::size_t wanted = id >= 0xf0 && id < 0xf5 ? 3 : id >= 0xe0 ? 2 : id >= 0xc2 && id < 0xe0 ? 1 : 0;
    std::size_t found = 0;
    while (found < wanted && i + found < ids.size() && continues_utf8(ids[i + found])) ++found;
    const bool is_cut = found < wanted && i + found == ids.size();  // by the end of the batch
    if (wanted > 0 && id < 0xf5 && (found == wanted || is_cut)) i += found;
    else ++count;
  }
  return count;
}

void count_words(const Tensor& ids, BatchResult& result) {
  bool in_word = false;
  const std::span<const std::int64_t> all(ids.host_data<std::int64_t>(), static_cast<std::size_t>(ids.numel()));
  for (const std::int64_t id : all) {
    result.words += !is_space(id) && !in_word;
    in_word = !is_space(id);
  }
  result.begins_in_word = !is_space(all.front());
  result.ends_in_word = in_word;
  result.ids = ids.numel();
  result.not_text = count_not_text(all);
}

BatchResult evaluate_batch(const Model& model, const Batch& batch, const LossFunction& own_loss, Answers& answers) {
  const Tensor& values = model.parameters().values();
  const ModelInput input = to_device(batch.input, values.device(), values.dtype());
  const Model::Loss loss = model.loss(input);
  const std::vector<double> elements = loss.elements.to_vector_as<double>();
  BatchResult result{.loss = own_loss ? own_loss(model, input, {}).item() : loss.loss.item(),
                     .nats = std::accumulate(elements.begin(), elements.end(), 0.0),
                     .sequences = batch.ids.size(0),
                     .bytes = static_cast<std::int64_t>(loss.count.item())};
  if (model.config().is_masked() || !batch.answers.empty()) {
    const std::vector<std::uint8_t> likeliest = argmax_matches(loss.logits, input.targets).to_vector<std::uint8_t>();
    if (model.config().is_masked()) result.correct = count_correct(elements, likeliest);
    else count_answers(answers, batch, likeliest);
  }
  count_words(batch.ids, result);
  return result;
}

void add(Evaluation& sum, const BatchResult& batch, bool in_word) {
  ++sum.batches;
  sum.empty_batches += batch.bytes == 0;
  sum.sequences += batch.sequences;
  sum.sum_of_batch_losses += batch.loss;
  sum.nats += batch.nats;
  sum.bytes += batch.bytes;
  sum.correct += batch.correct;
  sum.ids += batch.ids;
  sum.not_text += batch.not_text;
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

// Sums the results of the batches in batch order; batch i is entry i / W of worker i mod W.
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
bool Evaluation::is_text() const { return words > 0 && not_text * 100 <= ids && ids <= words * 40; }
double Evaluation::word_perplexity() const { return std::exp(nats / static_cast<double>(words)); }

Evaluation evaluate(const Model& model, const Dataset& dataset, const EvaluationOptions& options) {
  const NoGradScope no_grad;
  const Workers& workers = options.workers;
  const std::int64_t size = dataset.size(0), batches = std::min(options.max_batches, (size + options.batch_size - 1) / options.batch_size);
  Prefetcher ahead(dataset, model.config(), [&options, size, batches, i = std::int64_t{workers.rank()}]() mutable -> std::optional<BatchPlace> {
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
    results.push_back(evaluate_batch(model, ahead.next().value(), options.loss, answers));
    if (options.on_progress) options.on_progress(i + 1, batches);
  }
  Evaluation sum = sum_in_order(workers.exchange_lists(results));
  for (const std::string& text : workers.exchange(text_of(answers))) add(sum.answers, text);
  sum.stopped = stopped;
  return sum;
}

}  // namespace mblm
