// Evaluation of answers to questions, without generation.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include "mblm/config/block_config.h"
#include "mblm/generate.h"
#include "tests/clevr_run.h"
#include "tests/temporary_folder.h"
#include "train/data/clevr.h"
#include "train/evaluate.h"
#include "train/step_runner.h"

namespace mblm::testing {
namespace {

std::unique_ptr<Dataset> open_questions(const TemporaryFolder& folder, const std::string& tokens) {
  write_clevr(folder, "data");
  return make_clevr({.path = folder / "data",
                     .arguments = std::make_shared<const std::string>("target_mode: a\nqiqa_loss_mask: [0, 0, 0, 1]\n" + tokens),
                     .length = 32,
                     .num_tokens = 256,
                     .pad_token_id = 200});
}

// Has two stages, so that the output that predicts a byte is not simply the output at the previous byte.
ModelConfig small_model() {
  auto block = std::make_shared<TransformerConfig>();
  block->attn_head_dims = 8;
  block->attn_num_heads = 2;
  block->attn_use_rot_embs = true;
  ModelConfig config;
  config.pad_token_id = 200;
  config.hidden_dims = {16, 16};
  config.seq_lens = {8, 4};
  config.num_layers = {1, 1};
  config.blocks = {block, block};
  return config;
}

void train(Model& model, const Dataset& dataset, std::int64_t steps) {
  StepRunner runner(model, 1, {.gradient = {.clip = 1.0}});
  for (std::int64_t step = 0; step < steps; ++step) {
    runner.micro_step(read_batch(dataset, {0, step % 4 * 10, 10}, model.config()).input, {.training = true});
    runner.optimizer_step(1e-2);
  }
}

// Gives each question its own kind.
struct OneByOne : Dataset {
  const Dataset& all;
  explicit OneByOne(const Dataset& dataset) : all(dataset) {}
  std::int64_t size(std::int64_t epoch) const override { return all.size(epoch); }
  std::int64_t length() const override { return all.length(); }
  SequenceParts parts() const override { return all.parts(); }
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override {
    all.read(epoch, index, out);
    out.answer->kind = std::to_string(index);
  }
};

// Whether the model generates the answer after its start, up to the end token if there is one.
bool generates_answer(const Model& model, const Clevr& data, std::int64_t index) {
  const Clevr::Sample parts = data.sample(index);
  std::vector<std::int64_t> prompt = parts.question, truth = parts.answer;
  prompt.insert(prompt.end(), parts.image.begin(), parts.image.end());
  prompt.insert(prompt.end(), parts.question.begin(), parts.question.end());
  if (data.arguments().som_text_token_id) {
    prompt.push_back(truth.front());
    truth.erase(truth.begin());
  }
  if (!data.arguments().eom_token_id) return generate(model, prompt, std::ssize(truth), {}) == truth;
  SamplingOptions options;
  options.stop = {*data.arguments().eom_token_id};
  return generate(model, prompt, std::ssize(truth) + 5, options) == truth;
}

// Two sequences of 8 equal ids. The answers have two ids and start at `first` and `first` + 1.
struct Constant : Dataset {
  std::int64_t id, first;
  Constant(std::int64_t each, std::int64_t start) : id(each), first(start) {}
  std::int64_t size(std::int64_t) const override { return 2; }
  std::int64_t length() const override { return 8; }
  SequenceParts parts() const override { return {.answers = true}; }
  void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
    std::fill(out.ids.begin(), out.ids.end(), id);
    *out.answer = {.kind = "constant", .first = first + index, .count = 2};
  }
};

}  // namespace

TEST_CASE("an answer counts as correct if and only if greedy generation produces it") {
  for (const std::string tokens : {"", "eom_token_id: 129\nsom_text_token_id: 130\nsom_image_token_id: 131\n", "eom_token_id: 129\n"}) {
    CAPTURE(tokens);
    const TemporaryFolder folder;
    const std::unique_ptr<Dataset> dataset = open_questions(folder, tokens);
    Model model(small_model());
    model.allocate();
    model.initialize(3);
    train(model, *dataset, 20);
    const Evaluation each = evaluate(model, OneByOne(*dataset), {.batch_size = 7});
    REQUIRE(each.answers.size() == clevr_questions);
    for (std::int64_t i = 0; i < clevr_questions; ++i) {
      CAPTURE(i);
      const AnswerScore& score = each.answers.at(std::to_string(i));
      CHECK(score.answers == 1);
      CHECK((score.correct == 1) == generates_answer(model, dynamic_cast<const Clevr&>(*dataset), i));
    }
    const AnswerScore all = each.all_answers();
    CHECK(all.answers == clevr_questions);
    CHECK(all.correct > 0);
    CHECK(all.correct < clevr_questions);

    const Evaluation by_kind = evaluate(model, *dataset, {.batch_size = 7});
    CHECK(by_kind.all_answers().correct == all.correct);
    CHECK(by_kind.nats == each.nats);
    std::set<std::string> kinds;
    for (const auto& [kind, score] : by_kind.answers) {
      kinds.insert(kind);
      CHECK(score.answers == (kind == "query_attribute" ? 16 : 8));
    }
    CHECK(kinds == std::set<std::string>{"compare_attribute", "count", "exists", "query_attribute"});
  }
}

TEST_CASE("the lowest id wins among equal logits") {
  Model model(small_model());
  model.allocate();
  const auto set_all = [&](float value) {
    const std::vector<float> values(static_cast<std::size_t>(model.parameters().values().numel()), value);
    Tensor(model.parameters().values()).from_host(values.data());
  };
  set_all(0);
  CHECK(evaluate(model, Constant(0, 3), {}).all_answers().correct == 2);
  CHECK(evaluate(model, Constant(1, 3), {}).all_answers().correct == 0);
  set_all(std::numeric_limits<float>::quiet_NaN());
  CHECK(evaluate(model, Constant(0, 3), {}).all_answers().correct == 0);
}

TEST_CASE("data without answers has no scores, and an answer outside the sequence is an error") {
  const TemporaryFolder folder;
  folder.write("text", std::string(2000, 'x'));
  Model model(small_model());
  model.allocate();
  model.initialize(1);
  CHECK(evaluate(model, *DatasetRegistry().make("files", {.path = folder / "text", .length = 32}), {.max_batches = 2}).answers.empty());
  CHECK(read_batch(Constant(1, 6), {0, 0, 1}).answers.front().first == 6);
  CHECK(message_of<ValueError>([] { read_batch(Constant(1, 6), {0, 1, 1}); }) == "data: sequence 1: expected an answer within 8 ids, got 2 ids at 7");
}

}  // namespace mblm::testing
