// The generator and the scorer against the forward pass over the whole sequence, and the bits of a sequence: they depend on nothing else.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/parallel.h"
#include "engine/pool.h"
#include "mblm/generator.h"
#include "mblm/sample.h"
#include "mblm/scorer.h"
#include "ops/token_shift.h"
#include "tests/random_config.h"

namespace mblm::testing {
namespace {

using Ids = std::vector<std::int64_t>;
using Logits = std::vector<std::vector<float>>;  // row t: of the byte at t

constexpr int models = 40;

Ids some_ids(std::int64_t count, std::uint64_t seed = 7) { return random_ids(1, count, seed).to_vector<std::int64_t>(); }

// The most bytes to test a model with: its context, and more where positions allow it.
std::int64_t test_length(const ModelConfig& config) { return config.fixed_context() ? config.context() : config.context() + config.patch_bytes(0) + 3; }

// Row t of the forward pass over the whole sequence predicts byte t; one more row for the byte after the last.
Logits by_forward(const Model& model, const Ids& ids) {
  const NoGradScope no_grad;
  const auto row = [](const Tensor& all, std::int64_t at) { return all.reshape(Shape{all.numel() / all.shape().last(), all.shape().last()}).slice(at, at + 1).to_vector_as<float>(); };
  Logits rows;
  const Tensor first = model.logits(empty(Shape{1, 0}, DType::Int64));
  rows.push_back(row(first, 0));
  const Tensor all = model.logits(from_values(Shape{1, std::ssize(ids)}, ids));  // row t is the output at byte t
  for (std::int64_t t = 0; t < std::ssize(ids); ++t) rows.push_back(row(all, t));
  return rows;
}

Logits by_steps(Generator& generator, Generator::Row row, std::span<const std::int64_t> ids) {
  Logits rows;
  for (const std::int64_t id : ids) {
    rows.emplace_back(generator.logits(row).begin(), generator.logits(row).end());
    generator.step(std::span(&row, 1), std::span(&id, 1));
  }
  rows.emplace_back(generator.logits(row).begin(), generator.logits(row).end());
  return rows;
}

Logits by_steps(const Model& model, const Ids& ids) {
  Generator generator(model);
  return by_steps(generator, generator.join(), ids);
}

Logits by_scorer(const Model& model, const Ids& ids) {
  Scorer scorer(model);
  Logits rows;
  for (std::int64_t begin = 0; begin < std::ssize(ids); begin += scorer.chunk_bytes()) {
    const auto count = static_cast<std::size_t>(std::min(scorer.chunk_bytes(), std::ssize(ids) - begin));
    const Tensor logits = scorer.next(std::span(ids).subspan(static_cast<std::size_t>(begin), count));
    for (std::int64_t t = 0; t < logits.size(0); ++t) rows.push_back(logits.slice(t, t + 1).to_vector_as<float>());
  }
  return rows;
}

double difference(const Logits& a, const Logits& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t t = 0; t < a.size(); ++t) {
    REQUIRE(a[t].size() == b[t].size());
    for (std::size_t i = 0; i < a[t].size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(a[t][i]) - static_cast<double>(b[t][i])));
  }
  return largest;
}

template <class Check>
void for_random_models(DType dtype, Check check) {
  for (std::uint64_t seed = 0; seed < models; ++seed) {
    const ModelConfig config = random_config(seed);
    CAPTURE(to_yaml(config));
    check(*make_model(config, dtype, seed));
  }
}

// A block without a state: y_t depends on x_t and x_{t-1}.
class ShiftBlock final : public StageBlock {
 public:
  Tensor forward(const Tensor& x, State* state, const ForwardContext&) const override {
    REQUIRE(state == nullptr);
    return token_shift(x);
  }
};

struct ShiftConfig : BlockConfig {
  std::string_view type() const override { return "shift"; }
  std::unique_ptr<StageBlock> build(const Scope&, std::int64_t, std::int64_t) const override { return std::make_unique<ShiftBlock>(); }
};

}  // namespace

TEST_CASE("generator: the logits of each byte are those of the forward pass over the sequence") {
  for (const DType dtype : {DType::Float64, DType::Float32, DType::BFloat16}) {
    CAPTURE(dtype);
    const double bound = dtype == DType::Float64 ? 1e-6 : dtype == DType::Float32 ? 1e-4 : 0.05;  // logits are returned in float32
    for_random_models(dtype, [&](const Model& model) {
      const Ids ids = some_ids(test_length(model.config()));
      const Logits expected = by_forward(model, ids);
      CHECK(difference(by_steps(model, ids), expected) <= bound);
      Logits scored = by_scorer(model, ids);
      scored.push_back(expected.back());  // the scorer does not predict the byte after the last
      CHECK(difference(scored, expected) <= bound);
    });
  }
}

TEST_CASE("generator: the bits do not depend on how a prompt is split, of any length") {
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    for_random_models(dtype, [&](const Model& model) {
      const Ids ids = some_ids(test_length(model.config()));
      const Logits steps = by_steps(model, ids);
      Generator generator(model);
      Random random(5);
      for (std::size_t length = 0; length <= ids.size(); ++length) {
        const Generator::Row row = generator.join();
        for (std::size_t fed = 0; fed < length;) {
          const std::size_t count = random() % 2 == 0 ? length - fed : 1 + random() % (length - fed);
          generator.feed(row, std::span(ids).subspan(fed, count));
          fed += count;
        }
        REQUIRE(std::equal(steps[length].begin(), steps[length].end(), generator.logits(row).begin()));
        generator.leave(row);
      }
      const Logits scored = by_scorer(model, ids);
      CHECK(std::equal(scored.begin(), scored.end(), steps.begin()));
    });
  }
}

TEST_CASE("generator: a prompt longer than the chunks it is computed in has the bits of its bytes one by one") {
  const std::string mamba = "{block_type: mamba2, d_state: 4, d_conv: 3, expand: 2, headdim: 4, pos_emb_type: null}";
  const std::string transformer = "{block_type: transformer, attn_head_dims: 4, attn_num_heads: 1, attn_use_rot_embs: true, pos_emb_type: null}";
  for (const auto& model : {make_model(config_of("[16]", "[4]", "[1]", "[" + mamba + "]")),
                            make_model(config_of("[16, 32]", "[4, 4]", "[1, 1]", "[" + mamba + ", " + transformer + "]"))}) {
    const Ids ids = some_ids(25'000);  // three chunks of 8192 bytes
    Generator generator(*model);
    const Generator::Row row = generator.join();
    generator.feed(row, ids);
    const Logits steps = by_steps(*model, ids);
    CHECK(std::equal(steps.back().begin(), steps.back().end(), generator.logits(row).begin()));
  }
}

TEST_CASE("generator: rows that join and leave do not change the bits of others, nor does the number of threads") {
  const int threads = thread_count();
  for_random_models(DType::Float32, [&](const Model& model) {
    const std::int64_t length = test_length(model.config());
    std::vector<Ids> texts;
    std::vector<Logits> alone;
    for (std::uint64_t i = 0; i < 5; ++i) {
      texts.push_back(some_ids(length, i));
      alone.push_back(by_steps(model, texts.back()));
    }
    set_thread_count(3);
    Generator generator(model);
    // Text i joins after 2 i steps of the others, with a prompt of i bytes, and leaves at its end.
    std::vector<std::size_t> at(texts.size());
    std::vector<std::optional<Generator::Row>> rows(texts.size());
    for (std::size_t round = 0;; ++round) {
      std::vector<Generator::Row> active;
      Ids next;
      for (std::size_t i = 0; i < texts.size(); ++i) {
        if (round == 2 * i) {
          rows[i] = generator.join();
          at[i] = std::min(i, texts[i].size());
          generator.feed(*rows[i], std::span(texts[i]).first(at[i]));
        }
        if (!rows[i]) continue;
        REQUIRE(std::equal(alone[i][at[i]].begin(), alone[i][at[i]].end(), generator.logits(*rows[i]).begin()));
        if (at[i] == texts[i].size()) {
          generator.leave(*rows[i]);
          rows[i].reset();
          continue;
        }
        active.push_back(*rows[i]);
        next.push_back(texts[i][at[i]++]);
      }
      if (active.empty() && round > 2 * texts.size()) break;
      generator.step(active, next);
    }
    set_thread_count(threads);
  });
}

TEST_CASE("generator: a snapshot continues with the same bits, alone and after the row has moved on") {
  for_random_models(DType::Float32, [&](const Model& model) {
    const Ids ids = some_ids(test_length(model.config()));
    const Logits expected = by_steps(model, ids);
    Generator generator(model);
    const Generator::Row row = generator.join();
    for (const std::size_t cut : {std::size_t{0}, ids.size() / 2, ids.size() - 1}) {
      const Generator::Row other = generator.join();
      generator.feed(other, std::span(ids).first(cut));
      const SequenceState state = generator.snapshot(other);
      const auto rest = std::span(ids).subspan(cut);
      const Logits first = by_steps(generator, other, rest);
      generator.restore(row, state);
      CHECK(generator.length(row) == static_cast<std::int64_t>(cut));
      CHECK(by_steps(generator, row, rest) == first);
      Generator fresh(model);
      CHECK(by_steps(fresh, fresh.join(state), rest) == first);
      CHECK(std::equal(first.begin(), first.end(), expected.begin() + static_cast<std::ptrdiff_t>(cut)));
      // Two rows continue it with different bytes.
      generator.restore(row, state);
      generator.restore(other, state);
      for (std::size_t t = 0; t < rest.size(); ++t) {
        generator.step(std::vector<Generator::Row>{row, other}, Ids{rest[t], (rest[t] + 1) % model.config().num_tokens});
        CHECK(std::equal(first[t + 1].begin(), first[t + 1].end(), generator.logits(row).begin()));
      }
      generator.leave(other);
    }
  });
}

TEST_CASE("generator: a block without a state is recomputed from its inputs") {
  for (const int stages : {1, 2, 3}) {
    ModelConfig config = random_config(static_cast<std::uint64_t>(stages - 1));
    config.blocks.assign(static_cast<std::size_t>(stages), std::make_shared<ShiftConfig>());
    config.seq_lens = std::vector<std::int64_t>{7, 3, 2};
    config.seq_lens.resize(static_cast<std::size_t>(stages));
    const auto model = make_model(config);
    const Ids ids = some_ids(test_length(model->config()));
    const Logits expected = by_forward(*model, ids), steps = by_steps(*model, ids);
    CHECK(difference(steps, expected) <= 1e-4);
    Generator generator(*model);
    const Generator::Row row = generator.join();
    generator.feed(row, ids);
    CHECK(std::equal(steps.back().begin(), steps.back().end(), generator.logits(row).begin()));
    // Two rows of different lengths in one batch.
    const std::size_t half = ids.size() / 2;
    const std::vector<Generator::Row> rows{generator.join(), generator.join()};
    generator.feed(rows[0], std::span(ids).first(half));
    for (std::size_t t = 0; half + t < ids.size(); ++t) {
      generator.step(rows, Ids{ids[half + t], ids[t]});
      CHECK(std::equal(steps[half + t + 1].begin(), steps[half + t + 1].end(), generator.logits(rows[0]).begin()));
      CHECK(std::equal(steps[t + 1].begin(), steps[t + 1].end(), generator.logits(rows[1]).begin()));
    }
  }
}

TEST_CASE("generator: wrong ids and too many of them are refused and change nothing") {
  const auto model = make_model(config_of("[4, 3]", "[6, 6]", "[1, 1]",
                                          "[{attn_head_dims: 2, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}, "
                                          "{attn_head_dims: 2, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}]"));
  Generator generator(*model);
  const Generator::Row row = generator.join();
  const Ids ids = some_ids(12);
  generator.feed(row, std::span(ids).first(7));
  const Ids wrong{1, 40}, negative{-1};
  CHECK_THROWS_AS(generator.feed(row, wrong), ValueError);
  CHECK_THROWS_AS(generator.feed(row, negative), ValueError);
  CHECK_THROWS_AS(generator.feed(row, std::span(ids).first(6)), ValueError);
  CHECK_THROWS_AS(generator.step(std::span(&row, 1), negative), ValueError);
  CHECK_THROWS_AS(generator.feed(row + 1, ids), ValueError);
  const std::vector<Generator::Row> twice{row, row};
  CHECK_THROWS_AS(generator.step(twice, std::span(ids).first(2)), ValueError);
  generator.feed(row, std::span(ids).subspan(7));
  const Logits steps = by_steps(*model, ids);
  CHECK(std::equal(steps.back().begin(), steps.back().end(), generator.logits(row).begin()));
  CHECK_THROWS_AS(generator.feed(row, std::span(ids).first(1)), ValueError);
}

TEST_CASE("generator: the memory of a Mamba model does not grow with the sequence") {
  const auto model = make_model(config_of("[64, 8]", "[16, 16]", "[2, 1]", "[{block_type: mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null}, "
                                          "{block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: null}]"));
  const auto peak = [&](std::int64_t bytes) {
    const Ids ids = some_ids(bytes);
    auto pool = std::make_shared<MemoryPool>(Device{});
    const PoolScope scope(pool);
    Generator generator(*model);
    const Generator::Row row = generator.join();
    generator.feed(row, ids);
    return static_cast<double>(pool->statistics().peak_used_bytes);
  };
  CHECK(peak(1 << 17) < 1.1 * peak(1 << 14));
}

TEST_CASE("scorer: a sequence of several chunks has the bits of the generator") {
  const std::string mamba = "{block_type: mamba2, d_state: 4, d_conv: 3, expand: 2, headdim: 4, pos_emb_type: null}";
  const std::string transformer = "{block_type: transformer, attn_head_dims: 4, attn_num_heads: 1, attn_use_rot_embs: true, pos_emb_type: null}";
  for (const auto& model : {make_model(config_of("[16]", "[4]", "[1]", "[" + mamba + "]")), make_model(config_of("[16, 2]", "[4, 4]", "[1, 1]", "[" + mamba + ", " + transformer + "]")),
                            make_model(config_of("[16, 2, 2]", "[4, 4, 4]", "[1, 1, 1]", "[" + mamba + ", " + mamba + ", " + transformer + "]"))}) {
    const Ids ids = some_ids(5 * Scorer(*model).chunk_bytes() / 2);
    const Logits scored = by_scorer(*model, ids), steps = by_steps(*model, ids);
    REQUIRE(scored.size() == ids.size());
    for (std::size_t t = 0; t < scored.size(); ++t) REQUIRE(scored[t] == steps[t]);
    CHECK(difference({scored.back()}, {by_forward(*model, ids).at(ids.size() - 1)}) <= 1e-4);
  }
}

TEST_CASE("scorer: a sequence beyond a fixed context is scored in windows from the start token") {
  const auto model = make_model(config_of("[4, 3]", "[6, 6]", "[1, 1]",
                                          "[{attn_head_dims: 2, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}, "
                                          "{attn_head_dims: 2, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}]"));
  const Ids ids = some_ids(29);
  Scorer scorer(*model);
  std::vector<double> scores;
  score(scorer, ids, [&](std::int64_t offset, std::int64_t id, double log_probability) {
    CHECK(offset == std::ssize(scores));
    CHECK(id == ids[static_cast<std::size_t>(offset)]);
    scores.push_back(log_probability);
  });
  REQUIRE(scores.size() == ids.size());
  for (std::size_t begin = 0; begin < ids.size(); begin += 12) {
    const Ids window(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(std::min(begin + 12, ids.size())));
    const Logits logits = by_steps(*model, window);
    for (std::size_t i = 0; i < window.size(); ++i) CHECK(scores[begin + i] == log_probability(logits[i], window[i]));
  }
}

}  // namespace mblm::testing
