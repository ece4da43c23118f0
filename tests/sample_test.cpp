// Sampling an id from logits: each option separately, and the distribution of draws.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "engine/error.h"
#include "mblm/generate.h"

namespace mblm {
namespace {

using Ids = std::vector<std::int64_t>;

// The set of ids that appear in many draws.
std::set<std::int64_t> drawn(const std::vector<float>& logits, SamplingOptions options, const Ids& sequence = {}) {
  std::set<std::int64_t> ids;
  for (std::int64_t position = 0; position < 4000; ++position) ids.insert(sample(logits, sequence, options, position));
  return ids;
}

// Logits with these probabilities as softmax.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

const std::vector<double> five{0.1, 0.4, 0.05, 0.25, 0.2};  // ranked: 1, 3, 4, 0, 2

}  // namespace

TEST_CASE("greedy sampling chooses the largest logit, the lowest id among equals") {
  CHECK(sample(std::vector<float>{-3, 2, 1}, {}, {}, 0) == 1);
  CHECK(sample(std::vector<float>{-1, 5, 2, 5, 5}, {}, {}, 7) == 1);
  CHECK(sample(std::vector<float>(256, -2.5F), {}, {}, 0) == 0);
  CHECK(sample(std::vector<float>{4}, {}, {}, 0) == 0);
}

TEST_CASE("top-k of one is greedy at any temperature, ties included") {
  SamplingOptions options{.temperature = 5, .top_k = 1};
  CHECK(drawn({-1, 5, 2, 5, 5}, options) == std::set<std::int64_t>{1});
}

TEST_CASE("top-k keeps the most probable ids, the lowest among equals") {
  CHECK(drawn(logits_of(five), {.temperature = 1, .top_k = 3}) == std::set<std::int64_t>{1, 3, 4});
  CHECK(drawn({0, 0, 0, 0, 0}, {.temperature = 1, .top_k = 2}) == std::set<std::int64_t>{0, 1});
  CHECK(drawn(logits_of(five), {.temperature = 1, .top_k = 100}).size() == 5);
}

TEST_CASE("top-p keeps the smallest set that reaches the probability") {
  CHECK(drawn(logits_of(five), {.temperature = 1, .top_p = 0.39}) == std::set<std::int64_t>{1});
  CHECK(drawn(logits_of(five), {.temperature = 1, .top_p = 0.6}) == std::set<std::int64_t>{1, 3});
  CHECK(drawn(logits_of(five), {.temperature = 1, .top_p = 0.66}) == std::set<std::int64_t>{1, 3, 4});
  CHECK(drawn(logits_of(five), {.temperature = 1, .top_p = 1e-9}) == std::set<std::int64_t>{1});
  // Relative to the ids that top-k keeps: 0.4 of 0.65 is 0.615.
  CHECK(drawn(logits_of(five), {.temperature = 1, .top_k = 2, .top_p = 0.6}) == std::set<std::int64_t>{1});
}

TEST_CASE("top-p keeps the lowest of equal ids at its boundary, and no id beyond an exact sum") {
  CHECK(drawn({0, 0, 0, 0}, {.temperature = 1, .top_p = 0.5}) == std::set<std::int64_t>{0, 1});
  CHECK(drawn({0, 0, 0, 0}, {.temperature = 1, .top_p = 0.51}) == std::set<std::int64_t>{0, 1, 2});
  CHECK(drawn({0, 0, 1, 0, 0}, {.temperature = 1, .top_p = 0.5}) == std::set<std::int64_t>{0, 2});  // e + 1 of e + 4
  CHECK(drawn({2, 1, 1, 1}, {.temperature = 1, .top_p = 0.45}) == std::set<std::int64_t>{0});      // e^2 of e^2 + 3 e: 0.475
}

TEST_CASE("min-p drops ids that are improbable relative to the most probable one") {
  CHECK(drawn(logits_of(five), {.temperature = 1, .min_p = 0.45}) == std::set<std::int64_t>{1, 3, 4});
  CHECK(drawn(logits_of(five), {.temperature = 1, .min_p = 1}) == std::set<std::int64_t>{1});
  CHECK(drawn({0, 0, -9}, {.temperature = 1, .min_p = 1}) == std::set<std::int64_t>{0, 1});
}

TEST_CASE("the repetition penalty lowers logits of either sign, once per id") {
  const SamplingOptions options{.repetition_penalty = 2};
  CHECK(sample(std::vector<float>{3, 2}, Ids{0}, options, 0) == 1);
  CHECK(sample(std::vector<float>{-1, -1.5F}, Ids{0}, options, 0) == 1);
  CHECK(sample(std::vector<float>{3, 1.4F}, Ids{0, 0, 0, 0}, options, 0) == 0);  // 1.5, not 3 / 2^4
  CHECK(sample(std::vector<float>{3, 2}, Ids{300, 1}, options, 0) == 0);
}

TEST_CASE("the repetition penalty lowers the ids that the sampler chose") {
  Sampler sampler({.repetition_penalty = 2}, 3, 0);
  const std::vector<float> logits{3, 2, 1};
  CHECK(sampler.choose(logits, 0) == 0);
  CHECK(sampler.choose(logits, 1) == 1);  // 1.5, 2, 1
  CHECK(sampler.choose(logits, 2) == 0);  // 1.5, 1, 1
}

TEST_CASE("a banned id is never chosen, and banning all ids is an error") {
  CHECK(drawn({9, 0, 0}, {.temperature = 1, .banned = {0}}) == std::set<std::int64_t>{1, 2});
  CHECK(sample(std::vector<float>{9, 1, 2}, {}, {.banned = {0, 2}}, 0) == 1);
  CHECK_THROWS_AS(sample(std::vector<float>{1, 2}, {}, {.banned = {0, 1}}, 0), ValueError);
  CHECK_THROWS_AS(sample(std::vector<float>{1, 2}, {}, {.banned = {2}}, 0), ValueError);
}

TEST_CASE("infinite logits are valid, NaN is an error") {
  constexpr float infinite = std::numeric_limits<float>::infinity();
  CHECK(drawn({infinite, 0, infinite}, {.temperature = 1}) == std::set<std::int64_t>{0, 2});
  CHECK(drawn({-infinite, 0, 1}, {.temperature = 1}) == std::set<std::int64_t>{1, 2});
  CHECK_THROWS_AS(sample(std::vector<float>{0, std::nanf("")}, {}, {}, 0), ValueError);
  CHECK_THROWS_AS(sample(std::vector<float>{}, {}, {}, 0), ValueError);
}

TEST_CASE("draws follow the softmax with temperature") {
  constexpr int draws = 40000;
  for (const double temperature : {0.5, 1.0, 2.0}) {
    std::array<double, 5> expected{}, counts{};
    double sum = 0;
    for (std::size_t i = 0; i < 5; ++i) sum += expected[i] = std::pow(five[i], 1 / temperature);
    const SamplingOptions options{.temperature = temperature, .seed = 3};
    for (int n = 0; n < draws; ++n) ++counts[static_cast<std::size_t>(sample(logits_of(five), {}, options, n))];
    double chi_square = 0;
    for (std::size_t i = 0; i < 5; ++i) {
      const double wanted = draws * expected[i] / sum;
      chi_square += (counts[i] - wanted) * (counts[i] - wanted) / wanted;
    }
    CHECK(chi_square < 18.47);  // 4 degrees of freedom: exceeded by one seed in a thousand
  }
}

TEST_CASE("a draw depends only on seed, sequence and position") {
  const std::vector<float> logits(256, 0.0F);
  SamplingOptions options{.temperature = 1, .seed = 11};
  const auto ids = [&](std::int64_t sequence) {
    Ids all;
    for (std::int64_t position = 0; position < 64; ++position) all.push_back(sample(logits, Ids{}, options, position, sequence));
    return all;
  };
  const Ids first = ids(0), second = ids(1);
  CHECK(ids(0) == first);  // independent of the draws in between
  CHECK(first != second);
  CHECK(std::set<std::int64_t>(first.begin(), first.end()).size() > 40);
  options.seed = 12;
  CHECK(ids(0) != first);
}

}  // namespace mblm
