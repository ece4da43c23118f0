// Training of a masked language model from text, its accuracy, and its data sets.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "mblm/checkpoint.h"
#include "tests/error_text.h"
#include "tests/temporary_folder.h"
#include "train/data/text_datasets.h"
#include "train/evaluate.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

constexpr std::int64_t mask_token = 256;

std::string text_of(std::size_t size) {
  const std::string words = "the quick brown fox jumps over the lazy dog while the small model learns to tell what comes next ";
  std::string text;
  while (text.size() < size) text += words;
  return text.substr(0, size);
}

RunConfig masked_config(const TemporaryFolder& folder) {
  RunConfig config = parse_run_config(
      "params:\n"
      "  input_seq_len: 32\n"
      "  mask_token_id: 256\n"
      "  mblm_config:\n"
      "    {num_tokens: 258, pad_token_id: 257, hidden_dims: [32, 32], seq_lens: [8, 4], num_layers: [1, 1],\n"
      "     block: {attn_head_dims: 16, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}}\n"
      "train: {target_elements: 2400, target_elements_strategy: batch, batch_size: 8, learning_rate: 0.01, gradient_accumulate_every: 1,\n"
      "  gradient_clipping: 1, masking_proba: 0.2}\n"
      "io: {name_model: masked, output_dir: x, dataset_dir: x, dataset_id: pg19masked, num_models_to_save: 1, validate_amount: 2,\n"
      "  log_train_loss_amount: 4, run_id: '1'}\n",
      "test", BlockRegistry());
  config.io.output_dir = (folder / "runs").string();
  config.io.dataset_dir = (folder / "text").string();
  for (const char* split : {"train", "validation", "test"}) folder.write(std::string("text/") + split + "/a.txt", text_of(split == std::string("train") ? 6000 : 1500));
  return config;
}

DatasetRequest request_of(const RunConfig& config, std::uint64_t seed = 0) {
  return {.path = config.io.dataset_dir, .length = config.input_seq_len, .masking = masking_of(config), .seed = seed};
}

}  // namespace

TEST_CASE("pg19masked masks bytes of pg19 and labels them") {
  const TemporaryFolder folder;
  const RunConfig config = masked_config(folder);
  const DatasetRegistry registry;
  const auto plain = registry.make("pg19", request_of(config)), masked = registry.make("pg19masked", request_of(config));
  REQUIRE(masked->size(1) == plain->size(1));
  std::int64_t hidden = 0, all = 0;
  for (std::int64_t epoch : {0, 1}) {
    const Batch truth = read_batch(*plain, {epoch, 0, plain->size(epoch)}), batch = read_batch(*masked, {epoch, 0, plain->size(epoch)});
    CHECK_FALSE(truth.labels.defined());
    REQUIRE(batch.labels.shape() == batch.ids.shape());
    for (std::int64_t i = 0; i < batch.ids.numel(); ++i) {
      const std::int64_t id = batch.ids.host_data<std::int64_t>()[i], label = batch.labels.host_data<std::int64_t>()[i], byte = truth.ids.host_data<std::int64_t>()[i];
      REQUIRE((id == mask_token ? label == byte : id == byte && label == no_label));
      hidden += id == mask_token;
    }
    all += batch.ids.numel();
  }
  CHECK(static_cast<double>(hidden) / static_cast<double>(all) == doctest::Approx(0.2).epsilon(0.1));
}

TEST_CASE("a masked data set reads each sequence once and keeps its loss mask") {
  struct Counted : Dataset {
    int& reads;
    explicit Counted(int& counter) : reads(counter) {}
    std::int64_t size(std::int64_t) const override { return 1; }
    std::int64_t length() const override { return 100; }
    SequenceParts parts() const override { return {.loss_mask = true, .answers = true}; }
    void read(std::int64_t, std::int64_t, const Sequence& out) const override {
      ++reads;
      std::fill(out.ids.begin(), out.ids.end(), 'x');
      std::fill(out.loss_mask.begin(), out.loss_mask.end(), 0.5f);
      *out.answer = {};
    }
  };
  int reads = 0;
  const MaskedDataset masked(std::make_unique<Counted>(reads), {.masking = Masking{mask_token, 0.5}});
  const Batch batch = read_batch(masked, {0, 0, 1});
  CHECK(reads == 1);
  CHECK(batch.answers.empty());
  CHECK(batch.loss_mask.to_vector<float>() == std::vector<float>(100, 0.5f));
  const std::vector<std::int64_t> ids = batch.ids.to_vector<std::int64_t>(), labels = batch.labels.to_vector<std::int64_t>();
  CHECK(std::count(ids.begin(), ids.end(), mask_token) == std::count(labels.begin(), labels.end(), 'x'));
}

TEST_CASE("masks depend on seed, split, worker, epoch and place") {
  const TemporaryFolder folder;
  const RunConfig config = masked_config(folder);
  const auto places = [&](const DatasetRequest& request, std::int64_t epoch, std::int64_t index) {
    const auto dataset = DatasetRegistry().make("pg19masked", request);
    std::vector<bool> masked;
    for (const std::int64_t id : read_batch(*dataset, {epoch, index, 1}).ids.to_vector<std::int64_t>()) masked.push_back(id == mask_token);
    return masked;
  };
  const DatasetRequest request = request_of(config);
  DatasetRequest validation = request, worker = request;
  validation.split = Split::Validation;
  worker.workers = 2;
  DatasetRequest second = worker;
  second.worker = 1;
  const std::vector<bool> first = places(request, 0, 3);
  CHECK(places(request, 0, 3) == first);
  CHECK(places(request, 0, 4) != first);
  CHECK(places(request, 1, 3) != first);
  CHECK(places(request_of(config, 1), 0, 3) != first);
  CHECK(places(validation, 0, 3) != first);
  CHECK(places(second, 0, 3) != places(worker, 0, 3));
}

TEST_CASE("a masked run learns more than byte frequencies") {
  const TemporaryFolder folder;
  const RunConfig config = masked_config(folder);
  Trainer trainer(config, DatasetRegistry());
  DatasetRequest request = request_of(config);
  request.split = Split::Test;
  const auto test = DatasetRegistry().make("pg19masked", request);
  const Evaluation before = evaluate(trainer.model(), *test, {.batch_size = 8});
  const TrainingResult result = trainer.run();
  const Evaluation after = evaluate(trainer.model(), *test, {.batch_size = 8});

  std::array<std::int64_t, 256> counts{};
  const Batch batch = read_batch(*test, {0, 0, test->size(0)});
  std::int64_t labels = 0;
  for (const std::int64_t label : batch.labels.to_vector<std::int64_t>()) {
    if (label == no_label) continue;
    ++counts[static_cast<std::size_t>(label)];
    ++labels;
  }
  const double unigram = static_cast<double>(*std::max_element(counts.begin(), counts.end())) / static_cast<double>(labels);
  CHECK(after.bytes == labels);
  CHECK(before.accuracy() < unigram);
  CHECK(after.accuracy() > 2 * unigram);
  CHECK(after.mean_loss() < before.mean_loss());
  CHECK(result.test_loss.value() == doctest::Approx(after.mean_batch_loss()));
  MESSAGE("masked accuracy " << after.accuracy() << ", unigram " << unigram);

  const auto again = load_model(folder / "runs" / "masked_1" / "checkpoints" / "best.safetensors", BlockRegistry());
  CHECK(evaluate(*again, *test, {.batch_size = 8}).correct == after.correct);
}

TEST_CASE("the data set and the model must both be masked or unmasked") {
  const TemporaryFolder folder;
  RunConfig config = masked_config(folder);
  config.io.dataset_id = "pg19";
  CHECK(error_text<ConfigError>([&] { Trainer(config, DatasetRegistry()); }) ==
        "io.dataset_id: expected a data set with masks, such as pg19masked, got pg19");
  CHECK(error_text<ConfigError>([&] { DatasetRegistry().make("pg19masked", {.path = config.io.dataset_dir, .length = 32}); }) ==
        "io.dataset_id: expected a data set without masks, the model is not a masked language model (params.mask_token_id, params.mblm_config)");
  CHECK_FALSE(std::filesystem::exists(config.io.output_dir));
}

}  // namespace mblm::testing
