// Generation with a small model: its limits and its dependence on the arguments.
#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "engine/error.h"
#include "mblm/generate.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

using Ids = std::vector<std::int64_t>;

struct Fixture {
  Model model;
  explicit Fixture(const char* fields) : model(parse_model_config(concat_text("params:\n", fields), "generate_test", BlockRegistry())) {
    model.allocate();
    model.initialize(2);
  }
  Ids operator()(const Ids& prompt, std::optional<std::int64_t> count, const SamplingOptions& options = {}) const {
    return generate(model, prompt, count, options);
  }
};

}  // namespace

TEST_CASE("greedy generation chooses the largest logit of a forward pass over the sequence") {
  const Fixture tiny(tiny_model);
  Ids sequence{104, 105};
  const Ids generated = tiny(sequence, 10);
  REQUIRE(generated.size() == 10);
  for (const std::int64_t id : generated) {
    const auto length = static_cast<std::int64_t>(sequence.size());
    const std::vector<float> logits = tiny.model.logits(from_values(Shape{1, length}, sequence)).to_vector<float>();
    CHECK(std::max_element(logits.end() - 256, logits.end()) - (logits.end() - 256) == id);
    sequence.push_back(id);
  }
}

TEST_CASE("generation fills a fixed context and can exceed others") {
  const Fixture tiny(tiny_model), fixed(fixed_model);
  CHECK(tiny({}, {}).size() == 32);
  CHECK(tiny({1, 2, 3}, {}).size() == 29);
  CHECK(tiny({1, 2, 3}, 40).size() == 40);
  CHECK(tiny(Ids(40, 7), {}).empty());
  CHECK(tiny(Ids(40, 7), 2).size() == 2);
  CHECK(fixed({}, {}).size() == 16);
  CHECK(fixed({5}, 15).size() == 15);
  CHECK(fixed(Ids(16, 5), {}).empty());
  CHECK_THROWS_AS(fixed({5}, 16), ValueError);
  CHECK_THROWS_AS(fixed(Ids(17, 5), 0), ValueError);
}

TEST_CASE("ids and options out of range are rejected") {
  const Fixture fixed(fixed_model);
  CHECK_THROWS_AS(fixed({128}, 1), ValueError);
  CHECK_THROWS_AS(fixed({-1}, 1), ValueError);
  CHECK_THROWS_AS(fixed({1}, -1), ValueError);
  CHECK_THROWS_AS(fixed({1}, 1, {.temperature = -1}), ValueError);
  CHECK_THROWS_AS(fixed({1}, 1, {.top_k = -1}), ValueError);
  CHECK_THROWS_AS(fixed({1}, 1, {.top_p = 0}), ValueError);
  CHECK_THROWS_AS(fixed({1}, 1, {.min_p = 1.5}), ValueError);
  CHECK_THROWS_AS(fixed({1}, 1, {.repetition_penalty = 0}), ValueError);
  CHECK_THROWS_AS(fixed({1}, 1, {.banned = {128}}), ValueError);
  CHECK_THROWS_AS(fixed({1}, 1, {.stop = {-1}}), ValueError);
}

TEST_CASE("a stop id or the caller ends the sequence, which includes the last id") {
  const Fixture tiny(tiny_model);
  const SamplingOptions random{.temperature = 1, .seed = 4};
  const Ids all = tiny({}, 20, random);
  SamplingOptions stopping = random;
  stopping.stop = {all[6]};
  const auto first = std::find(all.begin(), all.end(), all[6]);
  CHECK(tiny({}, 20, stopping) == Ids(all.begin(), first + 1));
  Ids seen;
  const Ids cut = generate(tiny.model, {}, 20, random, [&](std::int64_t id) {
    seen.push_back(id);
    return seen.size() < 3;
  });
  CHECK(cut == Ids(all.begin(), all.begin() + 3));
  CHECK(seen == cut);
}

TEST_CASE("sequences differ by index, and each is reproducible") {
  const Fixture tiny(tiny_model);
  const SamplingOptions random{.temperature = 1, .seed = 4};
  const auto sequence = [&](std::int64_t index) { return generate(tiny.model, {}, 20, random, {}, index); };
  const Ids first = sequence(0), second = sequence(1);
  CHECK(first != second);
  CHECK(sequence(1) == second);
  CHECK(sequence(0) == first);
}

}  // namespace mblm::testing
