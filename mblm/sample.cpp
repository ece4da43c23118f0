// Chooses the next id from its logits (spec: "Generation").
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/random.h"
#include "mblm/generate.h"

namespace mblm {
namespace {

constexpr double forbidden = -std::numeric_limits<double>::infinity();

// For each id, whether it appears in the sequence.
std::vector<bool> seen_ids(std::span<const std::int64_t> sequence, std::size_t vocabulary) {
  std::vector<bool> seen(vocabulary);
  for (const std::int64_t id : sequence)
    if (id >= 0 && static_cast<std::size_t>(id) < vocabulary) seen[static_cast<std::size_t>(id)] = true;
  return seen;
}

// Applies the repetition penalty and the bans to the logits. The penalty does not depend on how often an id appears in the sequence.
std::vector<double> adjusted(std::span<const float> logits, std::span<const std::int64_t> sequence, const SamplingOptions& options) {
  std::vector<double> values(logits.begin(), logits.end());
  for (const double value : values) require<ValueError>(!std::isnan(value), "sample: a logit is NaN");
  if (options.repetition_penalty != 1) {
    const std::vector<bool> seen = seen_ids(sequence, values.size());
    for (std::size_t id = 0; id < values.size(); ++id)
      if (seen[id]) values[id] *= values[id] > 0 ? 1 / options.repetition_penalty : options.repetition_penalty;
  }
  for (const std::int64_t id : options.banned) {
    require<ValueError>(id >= 0 && id < static_cast<std::int64_t>(values.size()), "sample: expected a banned id in [0, ", values.size(), "), got ", id);
    values[static_cast<std::size_t>(id)] = forbidden;
  }
  require<ValueError>(*std::max_element(values.begin(), values.end()) != forbidden, "sample: every id is banned");
  return values;
}

// Ids in descending order of logits, equal ones in ascending order of ids.
std::vector<std::size_t> ranked(const std::vector<double>& values) {
  std::vector<std::size_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), std::size_t{0});
  std::stable_sort(ids.begin(), ids.end(), [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  return ids;
}

// The number of ranked ids to keep, at least 1, given their probabilities p (unnormalized, p[0] = 1): applies top-k, then keeps the
// smallest set with a share of top_p, then those with p >= min_p.
std::size_t kept_count(const std::vector<double>& p, const SamplingOptions& options) {
  std::size_t kept = p.size();
  if (options.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options.top_k));
  if (options.top_p < 1) {
    const double wanted = options.top_p * std::accumulate(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
    double sum = p[0];
    std::size_t n = 1;
    while (n < kept && sum < wanted) sum += p[n++];
    kept = n;
  }
  while (kept > 1 && p[kept - 1] < options.min_p) --kept;
  return kept;
}

// A random number in [0, 1) with 53 bits, a function of the seed, the sequence and the position.
double uniform(std::uint64_t seed, std::int64_t sequence_index, std::int64_t position) {
  const RandomKey key{seed, site_of("sample"), static_cast<std::uint32_t>(sequence_index)};
  const auto words = philox(key, static_cast<std::uint64_t>(position));
  return static_cast<double>((std::uint64_t{words[0]} << 21) ^ (words[1] >> 11)) * 0x1p-53;
}

}  // namespace

std::int64_t sample(std::span<const float> logits, std::span<const std::int64_t> sequence, const SamplingOptions& options, std::int64_t position,
                    std::int64_t sequence_index) {
  require<ValueError>(!logits.empty(), "sample: expected at least one logit, got none");
  const std::vector<double> values = adjusted(logits, sequence, options);
  if (options.temperature == 0) return std::max_element(values.begin(), values.end()) - values.begin();  // the first of equal logits

  const std::vector<std::size_t> ids = ranked(values);
  std::vector<double> p(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const double value = values[ids[i]], largest = values[ids[0]];
    p[i] = value == largest ? 1 : std::exp((value - largest) / options.temperature);  // avoids inf - inf, which is NaN
  }
  const std::size_t kept = kept_count(p, options);
  double rest = uniform(options.seed, sequence_index, position) * std::accumulate(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  std::size_t chosen = 0;
  while (chosen + 1 < kept && rest >= p[chosen]) rest -= p[chosen++];
  return static_cast<std::int64_t>(ids[chosen]);
}

}  // namespace mblm
