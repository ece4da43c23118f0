// Training on several workers in threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <sstream>
#include <thread>

#include "engine/error.h"
#include "engine/random.h"
#include "tests/dealt_dataset.h"
#include "tests/run_outcome.h"
#include "tests/thread_workers.h"
#include "tests/tiny_run.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

RunConfig config_with(const std::string& file, Overrides overrides) { return read_run_config(file, BlockRegistry(), overrides); }

RunConfig dealt_config(const std::string& file, const std::string& id, int accumulate) {
  return config_with(file, {"io.run_id=" + id, "io.dataset_id=dealt", "train.batch_size=3", "train.target_elements=288", "io.validate_amount=3",
                            concat_text("train.gradient_accumulate_every=", accumulate)});
}

// Runs a training on `workers` workers and returns their error messages.
std::vector<std::string> train(const RunConfig& config, int workers, const DatasetRegistry& datasets = DatasetRegistry(), const TrainerOptions& options = {}) {
  return run_workers(workers, [&](Communicator& communicator) {
    TrainerOptions own = options;
    own.communicator = &communicator;
    Trainer(config, datasets, own).run();
  });
}

bool all_are(const std::vector<std::string>& texts, const std::string& wanted) {
  return std::all_of(texts.begin(), texts.end(), [&](const std::string& text) { return text == wanted; });
}

std::vector<float> last_values(const fs::path& run) { return SafetensorsFile(state_files(run).back()).tensor("values").to_vector<float>(); }

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    square += std::pow(static_cast<double>(a[i]), 2);
  }
  return std::sqrt(difference / square);
}

// The rows of a kind, split into columns.
std::vector<std::vector<std::string>> rows_of(const fs::path& run, const std::string& kind) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(read_file(run / "loss.csv"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> row;
    for (std::string word; std::getline(words, word, ',');) row.push_back(word);
    if (row[3] == kind) rows.push_back(row);
  }
  return rows;
}

// Sequences with a single, unique id each. Sequence `bad` of the training data of worker `bad_worker` causes an error.
struct Trouble {
  int bad_worker = -1;
  std::int64_t bad = -1;
  bool throws = false;  // otherwise has an infinite loss weight
};
class Troubled final : public Dataset {
 public:
  Troubled(const DatasetRequest& request, const Trouble& trouble) : request_(request), trouble_(trouble) {}
  std::int64_t size(std::int64_t) const override { return 80; }
  std::int64_t length() const override { return request_.length; }
  SequenceParts parts() const override { return {.loss_mask = true}; }
  void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
    std::fill(out.ids.begin(), out.ids.end(), 'a' + index % 5);
    std::fill(out.loss_mask.begin(), out.loss_mask.end(), 1.0f);
    if (request_.split != Split::Train || request_.worker != trouble_.bad_worker || index != trouble_.bad) return;
    require<FileError>(!trouble_.throws, "the file is gone");
    out.loss_mask[0] = std::numeric_limits<float>::infinity();
  }

 private:
  const DatasetRequest request_;
  const Trouble trouble_;
};

DatasetRegistry troubled_registry(const Trouble& trouble) {
  DatasetRegistry registry;
  registry.add("troubled", [trouble](const DatasetRequest& request) { return std::make_unique<Troubled>(request, trouble); });
  return registry;
}

}  // namespace

TEST_CASE("workers exchange values in order of rank") {
  std::atomic<int> writes = 0;
  const std::vector<std::string> errors = run_workers(3, [&](Communicator& communicator) {
    const Workers workers(&communicator);
    require(workers.exchange_values(10 * workers.rank()) == std::vector<int>{0, 10, 20}, "values");
    const std::vector<double> own(static_cast<std::size_t>(workers.rank()), 0.5);
    const auto lists = workers.exchange_lists(own);
    require(lists.size() == 3 && lists[0].empty() && lists[2] == std::vector<double>{0.5, 0.5}, "lists");
    const Tensor values = from_values<float>(Shape{2}, std::vector<float>{1, static_cast<float>(workers.rank())});
    Tensor summed = values;
    workers.collective()->sum(summed);
    require(values.to_vector<float>() == std::vector<float>{3, 3}, "sum");
    workers.broadcast(values);
    require(workers.together([&] { return workers.rank(); }) == workers.rank(), "together");
    workers.on_rank0([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ++writes;
    });
    require(writes == 1, "on_rank0");
  });
  CHECK(all_are(errors, ""));
  const Workers alone;
  CHECK(alone.exchange_values(7) == std::vector<int>{7});
  CHECK_THROWS_AS(alone.together([] { throw FileError("x: missing"); }), FileError);
}

TEST_CASE("an error of one worker is thrown on all") {
  const auto failing = [](int workers, const std::vector<int>& bad, bool has_exchange) {
    return run_workers(workers, [&](Communicator& communicator) {
      const Workers all(&communicator);
      all.together([&] {
        if (std::find(bad.begin(), bad.end(), all.rank()) != bad.end()) throw FileError("x: missing");
        if (has_exchange) all.exchange("news");
      });
    });
  };
  for (const bool has_exchange : {false, true}) {
    CHECK(all_are(failing(3, {1}, has_exchange), "worker 1: x: missing"));
    CHECK(all_are(failing(3, {2, 1}, has_exchange), "worker 1: x: missing"));
    CHECK(all_are(failing(3, {0, 1, 2}, has_exchange), "x: missing"));
    CHECK(all_are(failing(3, {}, has_exchange), ""));
  }
}

TEST_CASE("workers train like one process that accumulates their micro-batches") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  for (const int workers : {2, 4}) {
    const std::string together = concat_text("w", workers), alone = concat_text("a", workers);
    CHECK(all_are(train(dealt_config(file, together, 2), workers, dealt_registry()), ""));
    const TrainingResult one = Trainer(dealt_config(file, alone, 2 * workers), dealt_registry()).run();
    const fs::path run = folder / ("runs/tiny_" + together);
    CHECK(relative_difference(last_values(one.folder), last_values(run)) < 1e-6);
    // The models are close to each other and far from the initial values.
    CHECK(one.state.steps == 48 / workers);
    CHECK(std::stod(rows_of(run, "valid").back()[7]) < 0.8 * std::stod(rows_of(run, "valid").front()[7]));
    CHECK(std::stod(rows_of(run, "valid").back()[7]) == doctest::Approx(std::stod(rows_of(one.folder, "valid").back()[7])).epsilon(1e-5));
    CHECK(std::stod(rows_of(run, "test")[0][7]) == doctest::Approx(*one.test_loss).epsilon(1e-5));
    CHECK(contains(read_file(run / "config.yaml"), concat_text("num_workers: ", workers, "\n")));
  }
}

TEST_CASE("each worker has its share of the training data and the complete other splits") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  std::mutex mutex;
  std::vector<std::string> requests;
  DatasetRegistry registry;
  registry.add("noted", [&](const DatasetRequest& request) {
    const std::lock_guard lock(mutex);
    requests.push_back(concat_text(name_of(request.split), " ", request.worker, "/", request.workers));
    return std::make_unique<Troubled>(request, Trouble{});
  });
  CHECK(all_are(train(config_with(file, {"io.dataset_id=noted"}), 2, registry), ""));
  std::sort(requests.begin(), requests.end());
  CHECK(requests == std::vector<std::string>{"test 0/1", "test 0/1", "train 0/2", "train 1/2", "validation 0/1", "validation 0/1"});
}

TEST_CASE("an evaluation is bit-identical for any number of workers") {
  const TemporaryFolder folder;
  const RunConfig config = read_run_config(prepare_tiny_run(folder), BlockRegistry());
  folder.write("text/train/a.txt", words(700) + "and a word-that-crosses-the-border-of-a-sequence and more text than that, to the end.");
  Model model(config.model);
  model.allocate();
  model.initialize(1);
  const auto dataset = DatasetRegistry().make("pg19", {.path = folder / "text", .length = 32});
  const auto facts = [](const Evaluation& e) {
    return std::vector<double>{static_cast<double>(e.batches), static_cast<double>(e.sequences), e.sum_of_batch_losses, e.nats,
                               static_cast<double>(e.bytes), static_cast<double>(e.words)};
  };
  const std::vector<double> wanted = facts(evaluate(model, *dataset, {.batch_size = 5}));
  REQUIRE(wanted[0] == 5);
  REQUIRE(wanted[1] == 24);
  for (const int workers : {2, 3, 4, 10}) {
    const std::vector<std::string> errors = run_workers(workers, [&](Communicator& communicator) {
      require(facts(evaluate(model, *dataset, {.batch_size = 5, .workers = Workers(&communicator)})) == wanted, "the results differ");
    });
    CHECK(all_are(errors, ""));
  }
}

TEST_CASE("answers are counted over all workers") {
  const TemporaryFolder folder;
  const RunConfig config = read_run_config(prepare_tiny_run(folder), BlockRegistry());
  struct Questions final : Dataset {
    std::int64_t size(std::int64_t) const override { return 11; }
    std::int64_t length() const override { return 32; }
    SequenceParts parts() const override { return {.answers = true}; }
    void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
      std::fill(out.ids.begin(), out.ids.end(), index);
      *out.answer = {index % 3 == 0 ? "how many\n" : "2 of them", 30, index == 6 ? 0 : 1};  // an empty answer is correct
    }
  };
  Model model(config.model);
  model.allocate();
  model.initialize(1);
  const Evaluation alone = evaluate(model, Questions(), {.batch_size = 2});
  CHECK(alone.all_answers().correct >= 1);
  const std::vector<std::string> errors = run_workers(3, [&](Communicator& communicator) {
    const Evaluation e = evaluate(model, Questions(), {.batch_size = 2, .workers = Workers(&communicator)});
    require(e.answers.size() == 2 && e.answers.at("how many\n").answers == 4 && e.answers.at("2 of them").answers == 7, "answers");
    for (const auto& [kind, score] : e.answers) require(score.correct == alone.answers.at(kind).correct, "correct answers");
  });
  CHECK(all_are(errors, ""));
}

TEST_CASE("the selected workers have rows in loss.csv") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  CHECK(all_are(train(config_with(file, {"io.enabled_loss_log_for_gpus=[0, 2, 7]", "train.gradient_accumulate_every=2"}), 3), ""));
  const fs::path run = folder / "runs/tiny_1";
  for (const std::string kind : {"train", "valid", "test"}) {
    const auto rows = rows_of(run, kind);
    REQUIRE(rows.size() == (kind == "train" ? 8 : kind == "valid" ? 4 : 2));
    for (std::size_t i = 0; i < rows.size(); ++i) CHECK(rows[i][0] == (i % 2 == 0 ? "0" : "2"));
    CHECK((rows[0][7] == rows[1][7]) == (kind != "train"));  // training losses differ between workers, other losses are common
  }
}

TEST_CASE("dropout differs between workers") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const auto first_losses_are_equal = [&](const std::string& id, const std::string& dropout) {
    const RunConfig config = config_with(file, {"io.run_id=" + id, "io.dataset_id=troubled", "io.enabled_loss_log_for_gpus=[0, 1]", "params.block[1].ff_dropout=" + dropout});
    CHECK(all_are(train(config, 2, troubled_registry({})), ""));
    const auto rows = rows_of(folder / ("runs/tiny_" + id), "train");
    return rows[0][7] == rows[1][7];
  };
  CHECK(first_losses_are_equal("without", "0"));
  CHECK_FALSE(first_losses_are_equal("with", "0.5"));
}

TEST_CASE("a data error of one worker stops all workers and is logged once") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const RunConfig config = config_with(file, {"io.dataset_id=troubled"});
  CHECK(all_are(train(config, 3, troubled_registry({.bad_worker = 1, .bad = 13, .throws = true})), "worker 1: the file is gone"));
  const fs::path run = folder / "runs/tiny_1";
  CHECK(contains(read_file(run / "config.yaml"), "error: \"worker 1: the file is gone\""));
  CHECK(contains(read_file(run / "train.log"), "error: worker 1: the file is gone\n"));
}

TEST_CASE("workers that cannot start write nothing") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const auto messages = [&](const Overrides& overrides, int workers) { return train(config_with(file, overrides), workers); };
  CHECK(all_are(messages({"train.target_elements=2"}, 3), "train.target_elements: expected at least one element for each of 3 workers, got 2"));
  folder.write("text/train/a.txt", words(2000) + std::string(2000, '\xff'));
  const std::vector<std::string> errors = messages({"params.num_tokens=200"}, 2);
  CHECK(contains(errors[0], "worker 1: "));
  CHECK(contains(errors[0], "expected bytes below num_tokens 200, found 255"));
  CHECK(errors[1] == errors[0]);
  const std::vector<std::string> others = run_workers(2, [&](Communicator& communicator) {
    Trainer(config_with(file, {concat_text("train.seed=", communicator.rank())}), DatasetRegistry(), {.communicator = &communicator});
  });
  CHECK(all_are(others, "train: expected the same config and number of sequences on all workers, worker 1 differs: train.seed (0, now 1)"));
  CHECK_FALSE(fs::exists(folder / "runs"));
}

TEST_CASE("all workers stop when the first worker cannot write") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  std::atomic<bool> is_gone = false;
  TrainerOptions options;
  options.callbacks.on_progress = [&](const TrainingProgress& progress) {
    if (progress.micro_step >= 3 && !is_gone.exchange(true)) fs::remove_all(folder / "runs/tiny_1/checkpoints");
  };
  options.callbacks.progress_interval = 0;
  const std::vector<std::string> errors = train(config_with(file, {"io.num_models_to_save=9", "io.validate_amount=9"}), 2, DatasetRegistry(), options);
  CHECK(contains(errors[0], "checkpoints"));
  CHECK(errors[1] == errors[0]);
}

TEST_CASE("a loss that is not finite on one worker stops all workers or is skipped by all") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const DatasetRegistry registry = troubled_registry({.bad_worker = 1, .bad = 13});
  const Overrides overrides{"io.dataset_id=troubled", "train.gradient_accumulate_every=2", "train.target_elements=128"};
  const std::vector<std::string> errors = train(config_with(file, overrides), 2, registry);
  CHECK(errors[0].rfind("train: optimizer step 2 after micro-step 4: expected a finite loss, got ", 0) == 0);
  CHECK(contains(errors[0], "; gradient is not finite, first in stage 1, to_logits.bias; the parameters did not change"));
  CHECK(errors[1] == errors[0]);
  Overrides skipping = overrides;
  skipping.insert(skipping.end(), {"train.on_nonfinite=skip", "io.run_id=2"});
  std::atomic<int> skipped = 0;
  const std::vector<std::string> none = run_workers(2, [&](Communicator& communicator) {
    skipped += static_cast<int>(Trainer(config_with(file, skipping), registry, {.communicator = &communicator}).run().state.skipped_steps);
  });
  CHECK(all_are(none, ""));
  CHECK(skipped == 2);
}

TEST_CASE("workers stop together at an optimizer step and resume to the same outcome") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const auto config = [&](const std::string& id) {
    return config_with(file, {"io.run_id=" + id, "train.gradient_accumulate_every=3", "train.shuffle_train=true", "train.target_elements=160",
                              "io.validate_amount=5", "io.log_train_loss_amount=9", "io.enabled_loss_log_for_gpus=[0, 1]", "params.block[1].ff_dropout=0.1"});
  };
  CHECK(all_are(train(config("whole"), 2), ""));
  const std::map<std::string, std::string> outcome = outcome_of(folder / "runs/tiny_whole");
  // Validations follow micro-steps 1, 5, 10, 15 and 20; only 15 ends a group.
  int question = 1, steps_stopped = 0, validations_stopped = 0;
  for (int ended = 0; ended == 0; ++question) {
    CAPTURE(question);
    const std::string id = std::to_string(question);
    const fs::path run = folder / ("runs/tiny_" + id);
    std::atomic<int> stopped = 0, done = 0;
    std::atomic<std::int64_t> micro_step = 0, validation_due = 0;
    const std::vector<std::string> errors = run_workers(2, [&](Communicator& communicator) {
      int asked = 0;
      TrainerOptions options{.communicator = &communicator};
      options.callbacks.should_stop = [&] { return communicator.rank() == 1 && ++asked == question; };
      const TrainingResult result = Trainer(config(id), DatasetRegistry(), options).run();
      ++(result.stopped ? stopped : done);
      micro_step = result.state.micro_step;
      validation_due = result.state.validation_due;
    });
    CHECK(all_are(errors, ""));
    REQUIRE((stopped == 2 || done == 2));
    ended = done;
    if (ended != 0) continue;
    CHECK(micro_step % 3 == 0);
    CHECK((validation_due == 0 || micro_step == 15));
    validations_stopped += validation_due == 1;
    ++steps_stopped;
    const std::string before = read_file(run / "loss.csv");
    const auto resume = [&](int workers) { return train(read_config_of_run(run, BlockRegistry()), workers, DatasetRegistry(), {.resume_folder = run}); };
    const std::vector<std::string> refused = resume(3);
    CHECK(all_are(refused, run.string() + ": cannot change fields of a run: num_workers (2, now 3)"));
    CHECK(read_file(run / "loss.csv") == before);
    CHECK(all_are(resume(2), ""));
    check_same(run, outcome);
  }
  CHECK(steps_stopped >= 6);
  CHECK(validations_stopped >= 2);
}

TEST_CASE("a batch without loss and changed data are noticed in the share of any worker") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  std::string text = read_file(folder / "text/train/a.txt");
  const std::size_t half = text.size() / 2;
  text.replace(half, 128, std::string(128, '\0'));  // the first micro-batch of worker 1
  folder.write("text/train/a.txt", text);
  const RunConfig config = config_with(file, {"train.gradient_accumulate_every=2"});
  CHECK(all_are(train(config, 2), ""));
  const std::string log = read_file(folder / "runs/tiny_1/train.log"), warning = "a training batch has no byte that counts in the loss (all are padding)";
  REQUIRE(contains(log, warning));
  CHECK(log.find(warning) == log.rfind(warning));
  text[half + 500] ^= 1;
  folder.write("text/train/a.txt", text);
  for (const std::string& error : train(config, 2, DatasetRegistry(), {.resume_folder = folder / "runs/tiny_1"}))
    CHECK(contains(error, "the training data changed since the run began (2 shares, checksum "));
  CHECK(all_are(train(config, 2, DatasetRegistry(), {.resume_folder = folder / "runs/tiny_1", .accept_changed_data = true}), ""));
}

TEST_CASE("words are counted across batches for any number of workers") {
  const TemporaryFolder folder;
  const RunConfig config = read_run_config(prepare_tiny_run(folder), BlockRegistry());
  Model model(config.model);
  model.allocate();
  model.initialize(1);
  std::vector<std::string> texts{std::string(32 * 9, 'x'), std::string(32, 'x') + std::string(32 * 8, ' ')};
  for (std::uint32_t seed = 0; seed < 6; ++seed) {  // a border within a word, before, after or between spaces
    std::string text(32 * 9, ' ');
    for (std::size_t i = 0; i < text.size(); ++i)
      if (random_word({seed, 1, 2}, i) % 3 != 0) text[i] = 'a';
    texts.push_back(text);
  }
  for (std::size_t number = 0; number < texts.size(); ++number) {
    CAPTURE(number);
    const std::string& text = texts[number];
    std::int64_t words = 0;
    for (std::size_t i = 0; i < text.size(); ++i) words += text[i] != ' ' && (i == 0 || text[i - 1] == ' ');
    const std::string name = concat_text("words", number);
    folder.write(name + "/train/a", text);
    const auto dataset = DatasetRegistry().make("pg19", {.path = folder / name, .length = 32});
    REQUIRE(dataset->size(0) == 9);
    for (const std::int64_t batch_size : {1, 2}) {
      CHECK(evaluate(model, *dataset, {.batch_size = batch_size}).words == words);
      for (const int workers : {2, 3, 4}) {
        const std::vector<std::string> errors = run_workers(workers, [&](Communicator& communicator) {
          const Evaluation e = evaluate(model, *dataset, {.batch_size = batch_size, .workers = Workers(&communicator)});
          require(e.words == words, workers, " workers: expected ", words, " words, got ", e.words);
        });
        CHECK(all_are(errors, ""));
      }
    }
  }
}

TEST_CASE("two workers in bfloat16 stop and resume to the same outcome") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const auto config = [&](const std::string& id) {
    return config_with(file, {"io.run_id=" + id, "train.gradient_accumulate_every=2", "train.shuffle_train=true", "train.target_elements=128",
                              "io.validate_amount=3", "io.num_models_to_save=2", "params.block[1].ff_dropout=0.1", "train.precision=bfloat16"});
  };
  CHECK(all_are(train(config("whole"), 2), ""));
  const std::map<std::string, std::string> outcome = outcome_of(folder / "runs/tiny_whole");
  CHECK(contains(read_file(folder / "runs/tiny_whole/config.yaml"), "precision: bfloat16"));
  for (const int question : {2, 4, 6}) {
    CAPTURE(question);
    const std::string id = std::to_string(question);
    const fs::path run = folder / ("runs/tiny_" + id);
    std::atomic<int> stopped = 0;
    const std::vector<std::string> errors = run_workers(2, [&](Communicator& communicator) {
      int asked = 0;
      TrainerOptions options{.communicator = &communicator};
      options.callbacks.should_stop = [&] { return communicator.rank() == 1 && ++asked == question; };
      stopped += Trainer(config(id), DatasetRegistry(), options).run().stopped;
    });
    CHECK(all_are(errors, ""));
    CHECK(stopped == 2);
    CHECK(all_are(train(read_config_of_run(run, BlockRegistry()), 2, DatasetRegistry(), {.resume_folder = run}), ""));
    check_same(run, outcome);
  }
}

TEST_CASE("a run that skipped a step that is not finite resumes to the same outcome") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const DatasetRegistry registry = troubled_registry({.bad_worker = 0, .bad = 13});  // in micro-step 4, of step 2
  std::string precision;
  SUBCASE("in float32") { precision = "float32"; }
  SUBCASE("in bfloat16") { precision = "bfloat16"; }
  const auto config = [&](const std::string& id) {
    return config_with(file, {"io.run_id=" + id, "io.dataset_id=troubled", "train.on_nonfinite=skip", "train.gradient_accumulate_every=2",
                              "train.target_elements=48", "train.precision=" + precision});
  };
  const TrainingResult whole = Trainer(config("whole"), registry).run();
  CHECK(whole.state.skipped_steps == 1);
  const std::map<std::string, std::string> outcome = outcome_of(whole.folder);
  for (std::int64_t last = 2; last <= 7; ++last) {  // before, within and after the skipped step
    CAPTURE(last);
    std::int64_t done = 0;
    const TrainerCallbacks callbacks{.on_progress = [&](const TrainingProgress& p) { done = p.micro_step; }, .progress_interval = 0,
                                     .should_stop = [&] { return done >= last; }};
    const TrainingResult first = Trainer(config(std::to_string(last)), registry, {.callbacks = callbacks}).run();
    CHECK(first.state.micro_step == last);
    CHECK(first.state.skipped_steps == (last >= 4 ? 1 : 0));
    const TrainingResult rest = Trainer(read_config_of_run(first.folder, BlockRegistry()), registry, {.resume_folder = first.folder}).run();
    CHECK(rest.state.skipped_steps == 1);
    CHECK(rest.state.steps == whole.state.steps);
    check_same(first.folder, outcome);
  }
}

}  // namespace mblm::testing
