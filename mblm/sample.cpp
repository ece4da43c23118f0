#include "mblm/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/error.h"
#include "engine/random.h"

namespace mblm {
namespace {

void check_ids(const char* what, std::span<const std::int64_t> ids, std::int64_t vocabulary) {
  for (const std::int64_t id : ids)
    require<ValueError>(id >= 0 && id < vocabulary, "generate: ", what, ": expected ids in [0, ", vocabulary, "), got ", id);
}

// A random number in [0, 1) with 53 bits, a function of the seed, the sequence and the position.
double uniform(std::uint64_t seed, std::int64_t sequence_index, std::int64_t position) {
  const RandomKey key{seed, site_of("sample"), static_cast<std::uint32_t>(sequence_index)};
  const auto words = philox(key, static_cast<std::uint64_t>(position));
  return static_cast<double>((std::uint64_t{words[0]} << 21) ^ (words[1] >> 11)) * 0x1p-53;
}

}  // namespace

void check_sampling(const SamplingOptions& o, std::int64_t vocabulary) {
  require<ValueError>(o.temperature >= 0 && std::isfinite(o.temperature), "generate: temperature: expected 0 or more, got ", o.temperature);
  require<ValueError>(o.top_k >= 0, "generate: top_k: expected 0 or more, got ", o.top_k);
  require<ValueError>(o.top_p > 0 && o.top_p <= 1, "generate: top_p: expected a number in (0, 1], got ", o.top_p);
  require<ValueError>(o.min_p >= 0 && o.min_p <= 1, "generate: min_p: expected a number in [0, 1], got ", o.min_p);
  require<ValueError>(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "generate: repetition_penalty: expected more than 0, got ",
                      o.repetition_penalty);
  check_ids("banned", o.banned, vocabulary);
  check_ids("stop", o.stop, vocabulary);
}

Sampler::Sampler(SamplingOptions options, std::int64_t vocabulary, std::int64_t sequence_index)
    : options_(std::move(options)),
      sequence_index_(sequence_index),
      seen_(static_cast<std::size_t>(vocabulary)),
      banned_(static_cast<std::size_t>(vocabulary)) {
  check_sampling(options_, vocabulary);
  for (const std::int64_t id : options_.banned) banned_[static_cast<std::size_t>(id)] = true;
}

void Sampler::see(std::span<const std::int64_t> ids) {
  for (const std::int64_t id : ids)
    if (id >= 0 && id < std::ssize(seen_)) seen_[static_cast<std::size_t>(id)] = true;
}

bool Sampler::stops_at(std::int64_t id) const { return std::find(options_.stop.begin(), options_.stop.end(), id) != options_.stop.end(); }

// Applies the repetition penalty and the bans to the logits. The penalty does not depend on how often an id appears in the sequence.
void Sampler::adjust(std::span<const float> logits) {
  require<ValueError>(!logits.empty() && logits.size() <= seen_.size(), "sample: expected 1 to ", seen_.size(), " logits, got ", logits.size());
  candidates_.clear();
  for (std::size_t id = 0; id < logits.size(); ++id) {
    double value = static_cast<double>(logits[id]);
    require<ValueError>(!std::isnan(value), "sample: a logit is NaN");
    if (seen_[id] && options_.repetition_penalty != 1) value *= value > 0 ? 1 / options_.repetition_penalty : options_.repetition_penalty;
    if (!banned_[id]) candidates_.push_back({value, static_cast<std::int64_t>(id)});
  }
  require<ValueError>(!candidates_.empty(), "sample: every id is banned");
}

std::int64_t Sampler::choose(std::span<const float> logits, std::int64_t position) {
  adjust(logits);
  std::int64_t id = 0;
  if (options_.temperature == 0) {
    const auto less = [](const Candidate& a, const Candidate& b) { return a.value < b.value; };
    id = std::max_element(candidates_.begin(), candidates_.end(), less)->id;  // the first of equal logits
  } else {
    id = draw(uniform(options_.seed, sequence_index_, position));
  }
  see(std::span(&id, 1));
  return id;
}

// Draws from the ids in descending order of logits, equal ones in ascending order of ids, after top-k, then the smallest set with a
// share of top_p, then min-p. A heap yields the ids one by one, as many as are needed.
std::int64_t Sampler::draw(double uniform) {
  const auto later = [](const Candidate& a, const Candidate& b) { return a.value != b.value ? a.value < b.value : a.id > b.id; };
  std::make_heap(candidates_.begin(), candidates_.end(), later);
  const double largest = candidates_.front().value;
  // The probability of an id relative to that of the first. Equality avoids inf - inf, which is NaN.
  const auto weight = [&](const Candidate& c) { return c.value == largest ? 1 : std::exp((c.value - largest) / options_.temperature); };
  auto rest = candidates_.end();  // the ids from here on have been taken from the heap, the last one first
  const auto take = [&]() -> const Candidate& {
    std::pop_heap(candidates_.begin(), rest, later);
    return *--rest;
  };
  const auto taken = [&](std::size_t rank) -> const Candidate& { return *(candidates_.end() - 1 - static_cast<std::ptrdiff_t>(rank)); };

  const std::size_t all = candidates_.size();
  std::size_t kept = options_.top_k > 0 ? std::min(all, static_cast<std::size_t>(options_.top_k)) : all;
  double total = 0;
  if (kept < all) {
    for (std::size_t i = 0; i < kept; ++i) total += weight(take());
  } else {
    for (const Candidate& c : candidates_) total += weight(c);
  }
  const auto ranked = [&](std::size_t rank) -> const Candidate& {
    while (static_cast<std::size_t>(candidates_.end() - rest) <= rank) take();
    return taken(rank);
  };
  if (options_.top_p < 1 || options_.min_p > 0) {
    const double wanted = options_.top_p < 1 ? options_.top_p * total : std::numeric_limits<double>::infinity();
    std::size_t n = 1;
    double sum = weight(ranked(0));
    while (n < kept && sum < wanted && weight(ranked(n)) >= options_.min_p) sum += weight(ranked(n++));
    kept = n;
    total = sum;
  }
  double left = uniform * total;
  std::size_t chosen = 0;
  while (chosen + 1 < kept) {
    const double p = weight(ranked(chosen));
    if (left < p) break;
    left -= p;
    ++chosen;
  }
  return ranked(chosen).id;
}

double log_probability(std::span<const float> logits, std::int64_t id) {
  require<ValueError>(id >= 0 && id < std::ssize(logits), "log_probability: expected an id in [0, ", logits.size(), "), got ", id);
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return static_cast<double>(logits[static_cast<std::size_t>(id)]) - largest - std::log(sum);
}

std::int64_t sample(std::span<const float> logits, std::span<const std::int64_t> sequence, const SamplingOptions& options, std::int64_t position,
                    std::int64_t sequence_index) {
  Sampler sampler(options, std::ssize(logits), sequence_index);
  sampler.see(sequence);
  return sampler.choose(logits, position);
}

}  // namespace mblm
