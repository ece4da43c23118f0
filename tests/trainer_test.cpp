// Training runs of a tiny model, from config to files.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "engine/parallel.h"
#include "engine/pool.h"
#include "mblm/config/block_config.h"
#include "mblm/package_checkpoint.h"
#include "tests/csv_rows.h"
#include "tests/temporary_folder.h"
#include "train/evaluate.h"
#include "train/step_runner.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

// A text that a small model learns quickly.
std::string text_of(std::size_t size) {
  const std::string words = "the quick brown fox jumps over the lazy dog while the small model learns to tell what comes next ";
  std::string text;
  while (text.size() < size) text += words;
  return text.substr(0, size);
}

RunConfig tiny_config(const TemporaryFolder& folder) {
  auto block = std::make_shared<TransformerConfig>();
  block->attn_head_dims = 8;
  block->attn_num_heads = 2;
  block->attn_use_rot_embs = true;
  block->pos_emb_type = PositionKind::Fixed;
  RunConfig config;
  config.model.hidden_dims = {16, 16};
  config.model.seq_lens = {8, 4};
  config.model.num_layers = {1, 1};
  config.model.blocks = {block, block};
  config.input_seq_len = 32;
  config.train.target_elements = 80;  // 20 micro-steps of 4 sequences
  config.train.batch_size = 4;
  config.train.learning_rate = 1e-2;
  config.train.gradient_clipping = 1.0;
  config.train.gradient_accumulate_every = 2;
  config.io.name_model = "tiny";
  config.io.output_dir = (folder / "runs").string();
  config.io.dataset_id = "files";
  config.io.dataset_dir = (folder / "text").string();
  config.io.num_models_to_save = 2;
  config.io.validate_amount = 5;
  config.io.log_train_loss_amount = 10;
  config.io.run_id = "1";
  folder.write("text", text_of(4000));
  return config;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const std::vector<float> x = a.to_vector<float>(), y = b.to_vector<float>();
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

// Sequences with a single id each; one of them has an infinite loss weight.
struct Poisoned : Dataset {
  std::int64_t bad;
  explicit Poisoned(std::int64_t bad_sequence) : bad(bad_sequence) {}
  std::int64_t size(std::int64_t) const override { return 40; }
  std::int64_t length() const override { return 32; }
  SequenceParts parts() const override { return {.loss_mask = true}; }
  void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
    std::fill(out.ids.begin(), out.ids.end(), 65 + index % 3);
    std::fill(out.loss_mask.begin(), out.loss_mask.end(), index == bad ? std::numeric_limits<float>::infinity() : 1.0f);
  }
};

DatasetRegistry poisoned_registry() {
  DatasetRegistry registry;
  registry.add("poisoned", [](const DatasetRequest& request) -> std::unique_ptr<Dataset> {
    if (request.split == Split::Test) return nullptr;
    return std::make_unique<Poisoned>(request.split == Split::Train ? 13 : -1);  // in micro-batch 3
  });
  return registry;
}

}  // namespace

TEST_CASE("a run learns and writes its files") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_config(folder);
  std::vector<std::string> told;
  Trainer trainer(config, DatasetRegistry(), {.callbacks = {.on_log = [&](const std::string& line) { told.push_back(line); }}});
  const TrainingResult result = trainer.run();
  const std::filesystem::path run = folder / "runs/tiny_1";
  CHECK(result.folder == run);
  CHECK_FALSE(result.stopped);
  CHECK(result.state.micro_step == 20);
  CHECK(result.state.steps == 10);
  CHECK(result.state.elements == 80);
  CHECK(result.state.epoch == 0);  // 3600 bytes are 112 sequences, 28 batches
  CHECK(result.state.batch == 20);

  const std::vector<Row> train = rows_of(run / "loss.csv", "train"), valid = rows_of(run / "loss.csv", "valid"), test = rows_of(run / "loss.csv", "test");
  REQUIRE(train.size() == 10);
  REQUIRE(valid.size() == 5);
  REQUIRE(test.size() == 1);
  CHECK(std::stod(train.front().at("loss")) > 5.0);
  CHECK(std::stod(train.back().at("loss")) < 0.85 * std::stod(train.front().at("loss")));
  CHECK(train.front().at("avg_grad") == "-1");
  CHECK(std::stod(train.back().at("avg_grad")) != 0);
  CHECK(train.back().at("cum_batch") == "19");
  CHECK(train.back().at("elements_seen") == "80");
  CHECK(std::stod(train[0].at("lr")) == doctest::Approx(1e-3));
  CHECK(valid[1].at("cum_batch") == "4");
  CHECK(valid[1].at("lr") == "-1");
  CHECK(std::stod(test[0].at("loss")) == doctest::Approx(*result.test_loss));
  CHECK(rows_of(run / "timemem.csv", "train").size() == 20);
  CHECK(rows_of(run / "timemem.csv", "valid").size() == 5);
  CHECK(rows_of(run / "timemem.csv", "valid")[1].at("cum_batch") == "4");
  CHECK(rows_of(run / "timemem.csv", "valid")[1].at("num_items") == "20");
  CHECK(rows_of(run / "timemem.csv", "test")[0].at("cum_batch") == "-1");

  double best = 1e9;
  for (const Row& row : valid) best = std::min(best, std::stod(row.at("loss")));
  CHECK(result.validation_loss == best);
  CHECK(std::distance(std::filesystem::directory_iterator(run / "checkpoints"), {}) == 4);  // two, best and last
  const SafetensorsFile saved(run / "checkpoints/best.safetensors");
  CHECK(saved.metadata().at("validation_loss") == shortest_text(best));
  for (const NamedTensor& value : trainer.model().parameters().named_values()) CHECK(same_bits(value.tensor, saved.tensor(value.name)));
  for (const std::string& line : told) CHECK(read_file(run / "train.log").find(" " + line + "\n") != std::string::npos);
  CHECK(told.size() >= 17);
  const auto count_of = [&](const char* part) { return std::count_if(told.begin(), told.end(), [&](const std::string& line) { return line.find(part) != line.npos; }); };
  CHECK(count_of(": sample after \"") == 5);
  CHECK(count_of(" s for data") == 1);
}

TEST_CASE("config.yaml of a run is a config that repeats it") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  const TrainingResult first = Trainer(config, DatasetRegistry()).run();
  CHECK_FALSE(read_run_config(first.folder / "config.yaml", BlockRegistry()).resume);
  const std::string text = read_file(first.folder / "config.yaml");
  CHECK(text.find("best_checkpoint: " + (first.folder / "checkpoints/step_").string()) != std::string::npos);
  CHECK(text.find("next_batch_index: 20\n") != std::string::npos);
  const TrainingResult second = Trainer(read_run_config(first.folder / "config.yaml", BlockRegistry(), {"io.run_id=2"}), DatasetRegistry()).run();
  CHECK(second.validation_loss == first.validation_loss);
  CHECK(read_file(second.folder / "checkpoints/last.safetensors") == read_file(first.folder / "checkpoints/last.safetensors"));

  // A run that starts from a checkpoint repeats that: its config keeps the start.
  config.resume.emplace().checkpoint_file = (first.folder / "checkpoints/best.safetensors").string();
  config.resume->next_batch_index = 20;
  config.io.run_id = "3";
  const TrainingResult third = Trainer(config, DatasetRegistry()).run();
  CHECK(rows_of(third.folder / "loss.csv", "train").front().at("cum_batch") == "20");
  CHECK(third.state.epoch == 1);  // 28 batches
  CHECK(third.state.batch == 12);
  const RunConfig again = read_run_config(third.folder / "config.yaml", BlockRegistry(), {"io.run_id=4"});
  REQUIRE(again.resume);
  CHECK(again.resume->checkpoint_file == config.resume->checkpoint_file);
  CHECK(again.resume->next_batch_index == 20);
  Trainer fourth(again, DatasetRegistry());
  const SafetensorsFile saved(first.folder / "checkpoints/best.safetensors");
  for (const NamedTensor& value : fourth.model().parameters().named_values()) CHECK(same_bits(value.tensor, saved.tensor(value.name)));
}

TEST_CASE("the last micro-step is validated, and the last model is saved") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  config.io.validate_amount = 1;
  Trainer trainer(config, DatasetRegistry());
  const TrainingResult result = trainer.run();
  const std::vector<Row> valid = rows_of(result.folder / "loss.csv", "valid");
  REQUIRE(valid.size() == 1);
  CHECK(valid[0].at("cum_batch") == "19");
  const SafetensorsFile best(result.folder / "checkpoints/best.safetensors"), last(result.folder / "checkpoints/last.safetensors");
  for (const std::string& name : best.names()) CHECK(same_bits(best.tensor(name), last.tensor(name)));

  config.io.validate_amount = 0;
  config.io.run_id = "2";
  Trainer without(config, DatasetRegistry());
  const TrainingResult unvalidated = without.run();
  CHECK(std::filesystem::read_symlink(unvalidated.folder / "checkpoints/best.safetensors") == "last.safetensors");
  const SafetensorsFile saved(unvalidated.folder / "checkpoints/last.safetensors");
  for (const NamedTensor& value : without.model().parameters().named_values()) {
    CHECK(same_bits(value.tensor, saved.tensor(value.name)));
    CHECK(same_bits(value.tensor, last.tensor(value.name)));
  }
}

TEST_CASE("batches in which no byte counts are reported and left out of the mean") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  const std::string padding(32, '\0');
  std::string text = text_of(128 * 3);  // three sequences
  const auto run = [&](const char* id, const std::string& train, const std::string& validation) {
    folder.write("splits/train/a", train);
    folder.write("splits/validation/a", validation);
    config.io.dataset_dir = folder / "splits";
    config.io.run_id = id;
    config.train.batch_size = 1;
    config.train.target_elements = 4;
    config.io.validate_amount = 2;
    std::vector<std::string> warnings;
    const TrainingResult result = Trainer(config, DatasetRegistry(), {.callbacks = {.on_warning = [&](const std::string& w) { warnings.push_back(w); }}}).run();
    const std::string log = read_file(result.folder / "train.log");
    for (const std::string& warning : warnings) CHECK(log.find(" warning: " + warning + "\n") != std::string::npos);
    return std::pair(result, warnings);
  };
  const auto [plain, none] = run("a", text, text.substr(0, 64));
  CHECK(none.empty());
  const auto [mixed, about_validation] = run("b", text, text.substr(0, 32) + padding + padding + text.substr(32, 32));
  CHECK(mixed.validation_loss == plain.validation_loss);
  CHECK(about_validation == std::vector<std::string>{"2 of 4 validation batches have no byte that counts in the loss (all are padding); the mean excludes them"});
  const auto [half, about_training] = run("c", text.substr(0, 32) + padding + padding + text, text.substr(0, 64));
  REQUIRE(about_training.size() == 2);
  CHECK(about_training[0].find(": 13 % of the bytes equal the padding id 0, so that the loss ignores them; use an id that no byte has") != std::string::npos);
  CHECK(about_training[1] == "micro-step 2: a training batch has no byte that counts in the loss (all are padding), its loss is 0");
  const auto [empty, all] = run("d", padding + padding + padding + padding, padding);
  CHECK_FALSE(empty.validation_loss);
  CHECK(all.size() == 3);
  CHECK(rows_of(empty.folder / "loss.csv", "valid").empty());
  CHECK(std::filesystem::read_symlink(empty.folder / "checkpoints/best.safetensors") == "last.safetensors");
}

TEST_CASE("a run starts from a checkpoint of the Python package, also with renamed modules and a smaller vocabulary") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  Model small(config.model);
  small.allocate();
  small.initialize(5);
  std::vector<NamedTensor> tensors = small.parameters().named_values();
  for (NamedTensor& named : tensors)
    if (named.name.starts_with("to_logits.")) named.name.replace(0, 9, "head");
  write_package_checkpoint(folder / "start.pth", tensors, 1.5, PackageLayout::V041);
  config.model.num_tokens += 3;
  ResumeConfig& resume = config.resume.emplace();
  resume.checkpoint_file = folder / "start.pth";
  const TrainerOptions options{.rename_modules = {{"head", "to_logits"}}};
  resume.migrate_embeddings = true;
  CHECK_THROWS_AS(Trainer(config, DatasetRegistry(), options), FileError);
  resume.migrate_embeddings = false;
  resume.rename_modules = true;
  CHECK_THROWS_AS(Trainer(config, DatasetRegistry(), options), FileError);
  CHECK_FALSE(std::filesystem::exists(folder / "runs"));
  resume.migrate_embeddings = true;
  Trainer trainer(config, DatasetRegistry(), options);
  const std::vector<NamedTensor> started = trainer.model().parameters().named_values(), expected = small.parameters().named_values();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(expected[i].name);
    const bool is_larger = started[i].tensor.shape() != expected[i].tensor.shape();
    CHECK(same_bits(is_larger ? started[i].tensor.slice(0, expected[i].tensor.size(0)) : started[i].tensor, expected[i].tensor));
  }
  CHECK(SafetensorsFile(folder / "runs/tiny_1/checkpoints/best.safetensors").metadata().at("validation_loss") == "1.5");
}

TEST_CASE("a seed gives the same bits for any number of threads") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  config.train.shuffle_train = true;
  auto block = std::make_shared<TransformerConfig>(dynamic_cast<const TransformerConfig&>(*config.model.blocks[0]));
  block->ff_dropout = 0.1;
  config.model.blocks = {block, block};
  config.train.gradient_clipping.reset();
  const auto values_after = [&](const char* id, std::int64_t seed, int threads) {
    config.io.run_id = id;
    config.train.seed = seed;
    const int before = thread_count();
    set_thread_count(threads);
    Trainer trainer(config, DatasetRegistry());
    trainer.run();
    set_thread_count(before);
    return clone(trainer.model().parameters().values());
  };
  const Tensor first = values_after("a", 3, 1);
  CHECK(same_bits(first, values_after("b", 3, 2)));
  CHECK_FALSE(same_bits(first, values_after("c", 4, 1)));
}

TEST_CASE("a stopped run keeps its results") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_config(folder);
  int asked = 0;
  Trainer trainer(config, DatasetRegistry(), {.callbacks = {.on_progress = [&](const TrainingProgress& p) { asked = static_cast<int>(p.micro_step); },
                                                            .progress_interval = 0,
                                                            .should_stop = [&] { return asked >= 7; }}});
  const TrainingResult result = trainer.run();
  CHECK(result.stopped);
  CHECK(result.state.micro_step == 7);
  CHECK(result.state.steps == 3);
  CHECK(result.validation_loss);
  CHECK_FALSE(result.test_loss);
  CHECK(std::filesystem::exists(result.folder / "checkpoints/best.safetensors"));
  CHECK(read_file(result.folder / "config.yaml").find("next_batch_index: 7") != std::string::npos);
  CHECK(read_file(result.folder / "train.log").find("stopped after micro-step 7 of 20") != std::string::npos);
}

TEST_CASE("progress reports the position of the run") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_config(folder);
  std::vector<TrainingProgress> all;
  Trainer(config, DatasetRegistry(), {.callbacks = {.on_progress = [&](const TrainingProgress& p) { all.push_back(p); }, .progress_interval = 0}}).run();
  REQUIRE(all.size() == 20);
  CHECK_FALSE(all[0].gradient_norm);
  CHECK(*all[1].gradient_norm > 0);
  CHECK(all[19].step == 10);
  CHECK(all[19].steps == 10);
  CHECK(all[19].micro_steps == 20);
  CHECK(all[19].seconds_left == 0);
  CHECK(all[9].seconds_left > 0);
  CHECK(all[9].bytes_per_second > 0);
  CHECK(all[0].bits_per_byte == doctest::Approx(all[0].loss / std::numbers::ln2));
  CHECK(all[5].bits_per_byte == doctest::Approx(*all[5].smoothed_loss / std::numbers::ln2));
  int calls = 0;
  RunConfig again = config;
  again.io.run_id = "2";
  Trainer(again, DatasetRegistry(), {.callbacks = {.on_progress = [&](const TrainingProgress&) { ++calls; }, .progress_interval = 1e9}}).run();
  CHECK(calls == 1);  // the last micro-step
}

TEST_CASE("a speed is not measured over a time that is too short, which the next measurement includes") {
  CHECK(*SpeedMeter(64, 3).take(5) > 0);
  SpeedMeter meter(64, 0, 100);
  CHECK_FALSE(meter.take(1));
  meter.leave_out(-1000);  // as if that time had passed
  CHECK(meter.take(4).value_or(0) == doctest::Approx(4 * 64 / 1000.0).epsilon(0.02));
  CHECK_FALSE(meter.take(5));
}

TEST_CASE("a training step in the steady state allocates no system memory") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  config.io.validate_amount = 2;  // the first and the last micro-step
  const auto pool = std::make_shared<MemoryPool>(Device{});
  const PoolScope scope(pool);
  std::vector<std::uint64_t> allocations;
  Trainer(config, DatasetRegistry(), {.callbacks = {.on_progress = [&](const TrainingProgress&) { allocations.push_back(pool->statistics().system_allocations); },
                                                    .progress_interval = 0}}).run();
  REQUIRE(allocations.size() == 20);
  CHECK(allocations[0] > 0);
  for (std::size_t step = 4; step < 19; ++step) CHECK(allocations[step] == allocations[3]);
}

TEST_CASE("a loss that is not finite stops the run or is skipped") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  config.io.dataset_id = "poisoned";
  {
    Trainer trainer(config, poisoned_registry());
    const std::string message = message_of<Error>([&] { trainer.run(); });
    CHECK(message.rfind("train: optimizer step 2 after micro-step 4: expected a finite loss, got ", 0) == 0);
    CHECK(message.find("; gradient is not finite, first in stage 1, to_logits.bias; the parameters did not change") != std::string::npos);
    CHECK(read_file(folder / "runs/tiny_1/config.yaml").find("error: \"train: optimizer step 2") != std::string::npos);
    CHECK(read_file(folder / "runs/tiny_1/train.log").find("error: train: optimizer step 2") != std::string::npos);
    for (const float value : trainer.model().parameters().values().to_vector<float>()) REQUIRE(std::isfinite(value));
  }
  config.io.run_id = "2";
  config.train.on_nonfinite = "skip";
  const TrainingResult result = Trainer(config, poisoned_registry()).run();
  CHECK(result.state.steps == 10);
  CHECK(result.state.skipped_steps == 2);  // epochs have 10 batches
  CHECK(std::isfinite(*result.validation_loss));
  CHECK_FALSE(result.test_loss);
}

TEST_CASE("epochs without a whole batch are skipped") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  folder.write("data/train/x", text_of(4 * 32));  // one batch if no bytes are skipped, which is every 32nd epoch
  folder.write("data/validation/x", text_of(32));
  config.io.dataset_dir = (folder / "data").string();
  config.train.target_elements = 12;
  const TrainingResult result = Trainer(config, DatasetRegistry()).run();
  const std::vector<Row> rows = rows_of(result.folder / "loss.csv", "train");
  REQUIRE(rows.size() == 3);
  CHECK(rows[1].at("epoch") == "32");
  CHECK(rows[2].at("epoch") == "64");
  CHECK(rows[2].at("cum_batch") == "2");
  CHECK(result.state.epoch == 96);
  CHECK(result.state.steps == 1);  // the third micro-batch is not a complete group
}

TEST_CASE("elements can be bytes, points can be none or all micro-steps, and loss rows can be disabled") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  config.train.target_elements_strategy = "sequence";
  config.train.target_elements = 4 * 4 * 32 + 1;  // 5 micro-steps
  config.io.validate_amount = 0;
  config.io.log_train_loss_amount = 1000;
  const TrainingResult result = Trainer(config, DatasetRegistry()).run();
  CHECK(result.state.micro_step == 5);
  CHECK_FALSE(result.validation_loss);
  CHECK(result.test_loss);  // of the last state
  CHECK(std::filesystem::read_symlink(result.folder / "checkpoints/best.safetensors") == "last.safetensors");
  const std::vector<Row> rows = rows_of(result.folder / "loss.csv");
  REQUIRE(rows.size() == 6);
  for (std::size_t i = 0; i < 5; ++i) CHECK(rows[i].at("elements_seen") == std::to_string((i + 1) * 128));
  config.io.run_id = "2";
  config.io.enabled_loss_log_for_gpus = {1};
  CHECK(rows_of(Trainer(config, DatasetRegistry()).run().folder / "loss.csv").empty());
}

TEST_CASE("validation and test are limited to max_eval_steps batches") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  config.train.batch_size = 2;
  config.train.max_eval_steps = 2;
  Trainer trainer(config, DatasetRegistry());
  const TrainingResult result = trainer.run();
  const auto test = DatasetRegistry().make("files", {.path = folder / "text", .split = Split::Test, .length = 32});
  CHECK(test->size(0) == 6);
  CHECK(*result.test_loss == evaluate(trainer.model(), *test, {.batch_size = 2, .max_batches = 2}).mean_batch_loss());
  config.io.run_id = "2";
  config.train.shuffle_eval = true;
  const TrainingResult shuffled = Trainer(config, DatasetRegistry()).run();
  CHECK(rows_of(shuffled.folder / "loss.csv", "valid")[0].at("loss") != rows_of(result.folder / "loss.csv", "valid")[0].at("loss"));
}

TEST_CASE("the mean gradient is the mean over the named parameters") {
  ParameterStore store;
  store.add("a", Shape{2}, Init::constant(0));
  store.add_merged({{"b.q", Shape{1, 2}, Init::constant(0)}, {"b.kv", Shape{2, 2}, Init::constant(0)}});
  store.allocate({});
  std::vector<float> gradients(static_cast<std::size_t>(store.gradients().numel()), 0.0f);
  const auto at = [&](std::size_t parameter, std::size_t element) -> float& {
    return gradients[static_cast<std::size_t>(store.parameters()[parameter]->offset()) + element];
  };
  const auto upload = [&] { Tensor(store.gradients()).from_host(gradients.data()); };
  at(0, 0) = 1;   // a: mean 0.5
  at(1, 0) = 3;
  at(1, 1) = 5;   // b.q: mean 4
  at(1, 4) = -2;  // b.kv: mean -0.5
  upload();
  CHECK(mean_gradient(store) == doctest::Approx(4.0 / 3));
}

TEST_CASE("errors are reported before a folder is created") {
  const TemporaryFolder folder;
  RunConfig config = tiny_config(folder);
  config.io.dataset_dir = (folder / "nothing").string();
  CHECK_THROWS_AS(Trainer(config, DatasetRegistry()), FileError);
  config = tiny_config(folder);
  config.train.batch_size = 113;
  config.train.target_elements = 113;
  CHECK(message_of<FileError>([&] { Trainer(config, DatasetRegistry()); }) ==
        (folder / "text").string() + ": expected at least 113 sequences of 32 ids for a training batch, found 112");
  config = tiny_config(folder);
  config.resume.emplace().checkpoint_file = folder.write("damaged.safetensors", "no checkpoint").string();
  CHECK_THROWS_AS(Trainer(config, DatasetRegistry()), FileError);
  config = tiny_config(folder);
  config.resume.emplace().next_batch_index = 29;
  CHECK(message_of<ConfigError>([&] { Trainer(config, DatasetRegistry()); }) ==
        "resume.next_batch_index: expected at most 28, the number of batches in the epoch, got 29");
  CHECK_FALSE(std::filesystem::exists(folder / "runs"));
  config = tiny_config(folder);
  config.io.output_dir = (folder / "text").string();
  CHECK_THROWS_AS(Trainer(config, DatasetRegistry()), FileError);
}

TEST_CASE("the micro-steps of a group are equivalent to one large batch") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_config(folder);
  Model one(config.model), two(config.model);
  for (Model* model : {&one, &two}) {
    model->allocate({}, DType::Float64);
    model->initialize(1);
  }
  const auto dataset = DatasetRegistry().make("files", {.path = folder / "text", .length = 32});
  StepRunner whole(one, 1, {.gradient = {.clip = 0.5}}), halves(two, 2, {.gradient = {.clip = 0.5}});
  for (std::int64_t step = 0; step < 3; ++step) {
    const ForwardContext context{.training = true};
    whole.micro_step(read_batch(*dataset, {0, 6 * step, 6}, config.model).input, context);
    halves.micro_step(read_batch(*dataset, {0, 6 * step, 3}, config.model).input, context);
    halves.micro_step(read_batch(*dataset, {0, 6 * step + 3, 3}, config.model).input, context);
    whole.optimizer_step(1e-2);
    halves.optimizer_step(1e-2);
    const StepOutcome outcome = whole.last_outcome();
    CHECK(outcome.finite);
    CHECK(outcome.step == step + 1);
    CHECK(outcome.gradient_norm == doctest::Approx(halves.last_outcome().gradient_norm).epsilon(1e-9));
    CHECK(outcome.clip_factor == doctest::Approx(std::min(1.0, 0.5 / outcome.gradient_norm)).epsilon(1e-5));
  }
  const std::vector<double> a = one.parameters().values().to_vector<double>(), b = two.parameters().values().to_vector<double>();
  for (std::size_t i = 0; i < a.size(); ++i) REQUIRE(a[i] == doctest::Approx(b[i]).epsilon(1e-6));
}

TEST_CASE("a step that is not finite is reported one step late, and no later step updates a run that stops") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_config(folder);
  const Poisoned dataset(13);
  for (const bool stops : {true, false}) {
    Model model(config.model);
    model.allocate();
    model.initialize(1);
    StepRunner runner(model, 1, {.gradient = {.stop_after_nonfinite = stops}});
    std::vector<std::vector<float>> values;
    std::vector<StepOutcome> outcomes;
    for (const std::int64_t first : {0, 10, 20}) {  // the second batch holds sequence 13
      runner.micro_step(read_batch(dataset, {0, first, 10}, config.model).input, {.training = true});
      runner.optimizer_step(1e-2);
      values.push_back(model.parameters().values().to_vector<float>());
      for (const StepOutcome& outcome : runner.take_outcomes(StepRunner::Newest::Leave)) outcomes.push_back(outcome);
      CHECK(outcomes.size() == values.size() - 1);
    }
    CHECK(outcomes[0].finite);
    CHECK(outcomes[1].step == 2);
    CHECK_FALSE(outcomes[1].finite);
    CHECK_FALSE(std::isfinite(outcomes[1].loss));
    CHECK(model.parameters().named_gradients()[static_cast<std::size_t>(outcomes[1].parameter)].name == "to_logits.bias");
    CHECK(values[1] == values[0]);
    CHECK((values[2] == values[1]) == stops);
    const std::vector<StepOutcome> last = runner.take_outcomes(StepRunner::Newest::WaitFor);
    REQUIRE(last.size() == 1);
    CHECK(last[0].step == 3);
    CHECK(last[0].finite);
    CHECK(runner.take_outcomes(StepRunner::Newest::WaitFor).empty());
  }
}

TEST_CASE("evaluation counts bytes, words and nats of the whole split") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_config(folder);
  const std::string text = "three\nsmall  words and a word-that-crosses-the-border of sequences. The rest is cut off here.......";
  folder.write("data/train/x", text);
  Model model(config.model);
  model.allocate();
  model.initialize(1);
  const auto dataset = DatasetRegistry().make("files", {.path = folder / "data", .length = 32});
  REQUIRE(dataset->size(0) == 3);
  const Evaluation result = evaluate(model, *dataset, {.batch_size = 2});
  CHECK(result.batches == 2);
  CHECK(result.sequences == 3);
  CHECK(result.bytes == 96);
  CHECK(result.words == 14);

  double nats = 0, batch_losses = 0;
  const NoGradScope no_grad;
  for (const auto& [first, count] : {std::pair{0, 2}, std::pair{2, 1}}) {
    const Model::Loss loss = model.loss(read_batch(*dataset, {0, first, count}).ids);
    for (const float element : loss.elements.to_vector<float>()) nats += element;
    batch_losses += loss.loss.item();
  }
  CHECK(result.nats == doctest::Approx(nats).epsilon(1e-12));
  CHECK(result.mean_batch_loss() == doctest::Approx(batch_losses / 2).epsilon(1e-12));
  CHECK(result.mean_loss() == doctest::Approx(nats / 96));
  CHECK(result.bits_per_byte() == doctest::Approx(nats / 96 / std::log(2.0)));
  CHECK(result.word_perplexity() == doctest::Approx(std::exp(nats / 14)));

  int asked = 0;
  const Evaluation stopped = evaluate(model, *dataset, {.batch_size = 1, .should_stop = [&] { return ++asked > 2; }});
  CHECK(stopped.stopped);
  CHECK(stopped.batches == 2);
  CHECK(evaluate(model, *dataset, {.batch_size = 1, .max_batches = 1}).sequences == 1);
}

}  // namespace mblm::testing
