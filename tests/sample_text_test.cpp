// Sample output of a model as a line of a log.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <regex>

#include "engine/autograd.h"
#include "mblm/generate.h"
#include "tests/temporary_folder.h"
#include "train/sample_text.h"

namespace mblm::testing {
namespace {

// Two stages with patches of four bytes.
std::unique_ptr<Model> small_model(const std::string& start = "", const std::string& end = "") {
  const std::string fields =
      "{num_tokens: 258, pad_token_id: 257, hidden_dims: [16, 16], seq_lens: [64, 4], num_layers: [1, 1],"
      " block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true}}";
  auto model = std::make_unique<Model>(parse_model_config("params: " + start + fields + end, "test", BlockRegistry()));
  model->allocate();
  model->initialize(1);
  return model;
}

// Sequence i is i, i + 1, ... With answers, the answer is the last three ids. With labels, every fifth id has one.
struct Counting : Dataset {
  std::int64_t ids_per_sequence;
  bool with_answers = false, with_labels = false;
  explicit Counting(std::int64_t length) : ids_per_sequence(length) {}
  std::int64_t size(std::int64_t) const override { return 50; }
  std::int64_t length() const override { return ids_per_sequence; }
  SequenceParts parts() const override { return {.labels = with_labels, .answers = with_answers}; }
  void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
    for (std::size_t i = 0; i < out.ids.size(); ++i) out.ids[i] = with_labels && i % 5 == 0 ? 256 : (index + static_cast<std::int64_t>(i)) % 256;
    for (std::size_t i = 0; i < out.labels.size(); ++i) out.labels[i] = i % 5 == 0 ? 7 : no_label;
    if (with_answers) *out.answer = {.first = ids_per_sequence - 3, .count = 3};
  }
};

std::vector<std::int64_t> sequence(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

constexpr RandomKey key{.seed = 5, .site = 1, .step = 9};

std::int64_t chosen(const RandomKey& of) { return static_cast<std::int64_t>(random_permutation(of, 50, 0)); }

}  // namespace

TEST_CASE("ids are printed unambiguously on one line") {
  CHECK(printable_text(std::vector<std::int64_t>{'a', ' ', '~', '"', '\\', '\n', '\r', '\t', 0, 27, 127, 128, 255, 256, 1000}) ==
        R"(a ~\"\\\n\r\t\x00\x1b\x7f\x80\xff\{256}\{1000})");
  CHECK(printable_text({}).empty());
}

TEST_CASE("a sample continues a sequence selected by the key") {
  const auto model = small_model();
  const Counting data(100);
  const std::vector<std::int64_t> prompt = sequence(chosen(key), 50);
  const auto expected = [&](std::int64_t count) {
    return concat_text("after \"", printable_text(prompt), "\": \"",
                       printable_text(generate(*model, prompt, count, {.temperature = 1, .seed = key.seed}, {}, key.step)), '"');
  };
  CHECK(sample_text(*model, data, key, 1'000'000) == expected(50));
  CHECK(sample_text(*model, data, key, 600) == expected(10));  // 10 passes over 60 ids
  CHECK(sample_text(*model, data, key, 599) == expected(9));
  CHECK(sample_text(*model, data, key, 1) == expected(1));
  CHECK(sample_text(*model, data, {.seed = 5, .site = 1, .step = 10}, 600) != expected(10));
  CHECK(std::regex_match(sample_text(*model, Counting(1), key, 600), std::regex(R"(after "": ".+")")));
}

TEST_CASE("a sample for a data set with answers is the greedy answer") {
  const auto model = small_model();
  Counting data(100);
  data.with_answers = true;
  const std::vector<std::int64_t> before = sequence(chosen(key), 97), truth = sequence(chosen(key) + 97, 3);
  const std::span<const std::int64_t> shown = std::span(before).last(64);
  const auto expected = [&](std::int64_t count) {
    return concat_text("after \"", printable_text(shown), "\": \"", printable_text(generate(*model, before, count, {})), "\", expected \"",
                       printable_text(truth), '"');
  };
  CHECK(sample_text(*model, data, key, 300) == expected(3));
  CHECK(sample_text(*model, data, key, 299) == expected(2));
}

TEST_CASE("a sample of a masked language model fills in the masked ids") {
  const auto model = small_model("{input_seq_len: 256, mask_token_id: 256, mblm_config: ", "}");
  Counting data(200);
  data.with_labels = true;
  const Batch batch = read_batch(data, {0, chosen(key), 1});
  std::vector<std::int64_t> masked = batch.ids.to_vector<std::int64_t>(), filled = masked;
  masked.resize(128);
  filled.resize(128);
  const NoGradScope no_grad;
  const std::vector<float> logits = model->logits(from_values<std::int64_t>(Shape{1, 128}, masked)).to_vector<float>();
  for (std::size_t i = 0; i < 128; i += 5) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i) * 258;
    filled[i] = std::max_element(row, row + 258) - row;
  }
  CHECK(sample_text(*model, data, key, 1) == concat_text("of \"", printable_text(masked), "\": \"", printable_text(filled), '"'));
}

}  // namespace mblm::testing
