// What a program changes in a run through the hooks of the trainer.
#include "train/trainer_hooks.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

#include "engine/autograd.h"
#include "engine/elementwise.h"
#include "ops/add.h"
#include "ops/cross_entropy.h"
#include "ops/embedding.h"
#include "ops/scale.h"
#include "tests/csv_rows.h"
#include "tests/error_text.h"
#include "tests/run_outcome.h"
#include "tests/thread_workers.h"
#include "tests/tiny_run.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

namespace fs = std::filesystem;

// Accumulates two micro-batches per step: 8 steps, validations after micro-steps 1, 6, 11 and 16.
RunConfig config_with(const TemporaryFolder& folder, const std::string& id, Overrides overrides = {}) {
  overrides.insert(overrides.begin(),
                   {"io.run_id=" + id, "io.validate_amount=4", "io.log_train_loss_amount=16", "train.gradient_accumulate_every=2"});
  return read_run_config(folder / "config.yaml", BlockRegistry(), overrides);
}

TrainingResult run(const RunConfig& config, const TrainerHooks& hooks, const std::function<bool()>& should_stop = {},
                   Communicator* communicator = nullptr) {
  return Trainer(config, DatasetRegistry(), {.callbacks = {.should_stop = should_stop}, .hooks = hooks, .communicator = communicator}).run();
}

TrainingResult resume(const fs::path& folder, const TrainerHooks& hooks, Communicator* communicator = nullptr, const Overrides& overrides = {}) {
  const RunConfig config = read_config_of_run(folder, BlockRegistry(), overrides);
  return Trainer(config, DatasetRegistry(), {.resume_folder = folder, .hooks = hooks, .communicator = communicator}).run();
}

std::unique_ptr<Dataset> split_of(const RunConfig& config, Split split) {
  return DatasetRegistry().make(config.io.dataset_id, {.path = config.io.dataset_dir, .split = split, .length = config.input_seq_len});
}

std::function<bool()> stop_after(int micro_steps) {
  return [asked = 0, micro_steps]() mutable { return ++asked > micro_steps; };
}

SafetensorsFile last_state(const fs::path& run) { return SafetensorsFile(state_files(run).back()); }

std::vector<float> values_in(const fs::path& run, const std::string& name = "values") { return last_state(run).tensor(name).to_vector<float>(); }

// The outcome without the entry of the state that names the hooks.
std::map<std::string, std::string> outcome_without_state(const fs::path& run) {
  std::map<std::string, std::string> outcome = outcome_of(run);
  outcome.erase("state");
  return outcome;
}

// A loss that weights spaces five times.
Tensor weighted_loss(const Model& model, const ModelInput& input, const ForwardContext& context) {
  std::vector<float> weights(256, 1);
  weights[' '] = 5;
  const Tensor table = from_values<float>(Shape{256, 1}, weights, input.targets.device());
  const Tensor weight = embedding(input.targets, table).reshape(input.targets.shape());
  return cross_entropy(model.prediction_logits(input, context), input.targets, model.ignored_target(), weight).loss;
}

// The gradient descent of Polyak, 1964.
class Momentum final : public Optimizer {
 public:
  explicit Momentum(const Model& model) : velocity_(zeros_like(model.parameters().values())) {}
  void step(Tensor& values, const Tensor& gradients, const StepInfo& info) override {
    float* value = values.host_data<float>();
    float* velocity = velocity_.host_data<float>();
    const float* gradient = gradients.host_data<float>();
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      velocity[i] = 0.9f * velocity[i] + gradient[i];
      value[i] -= static_cast<float>(info.learning_rate) * velocity[i];
    }
  }
  std::vector<NamedTensor> state() const override { return {{"velocity", velocity_}}; }

 private:
  Tensor velocity_;
};

// Hooks that all change the run, with a moving average of the parameters as their state.
struct Everything {
  Tensor average;
  TrainerHooks hooks;
  Everything() {
    hooks.loss = weighted_loss;
    hooks.before_update = [](Model& model, const StepInfo& info) {
      Tensor first = model.parameters().parameters().front()->gradient();
      const Tensor scaled = scale(first, 1.0 / static_cast<double>(info.step));
      convert(scaled, first);
    };
    hooks.after_update = [this](Model& model, const StepInfo&) {
      convert(add(scale(average, 0.8), scale(model.parameters().values(), 0.2)), average);
    };
    hooks.learning_rate = [](std::int64_t step, std::int64_t, double configured) { return step % 2 == 0 ? configured : 0.5 * configured; };
    hooks.make_optimizer = [](const Model& model) { return std::make_unique<Momentum>(model); };
    hooks.state = [this](const Model& model) {
      average = zeros_like(model.parameters().values());
      return std::vector<NamedTensor>{{"average", average}};
    };
    hooks.end_run = [](const ValidationReport& report) { return report.micro_step > 8 && report.validations == 3; };
  }
};

std::string log_of(const fs::path& run) { return read_file(run / "train.log"); }

}  // namespace

TEST_CASE("a hook that computes the standard loss changes no bit") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  const fs::path plain = run(config_with(folder, "plain"), {}).folder;
  const fs::path own =
      run(config_with(folder, "own"),
          {.loss = [](const Model& model, const ModelInput& input, const ForwardContext& context) { return model.loss(input, context).loss; }})
          .folder;
  std::map<std::string, std::string> wanted = outcome_without_state(plain), found = outcome_without_state(own);
  CHECK(wanted == found);
  CHECK(values_in(plain) == values_in(own));
}

TEST_CASE("a loss of the program's own trains, validates and selects the best model") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  const RunConfig config = config_with(folder, "own");
  bool in_training = false, in_validation = false;
  TrainerHooks hooks;
  hooks.loss = [&](const Model& model, const ModelInput& input, const ForwardContext& context) {
    (context.training ? in_training : in_validation) = true;
    return weighted_loss(model, input, context);
  };
  Trainer trainer(config, DatasetRegistry(), {.hooks = hooks});
  const std::unique_ptr<Dataset> text = split_of(config, Split::Train);
  const Batch batch = read_batch(*text, {0, 0, 4}, config.model);
  const Model::Loss standard = trainer.model().loss(batch.input);
  const std::vector<double> elements = standard.elements.to_vector_as<double>();
  const std::vector<std::int64_t> ids = batch.input.targets.to_vector<std::int64_t>();
  double sum = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) sum += elements[i] * (ids[i] == ' ' ? 5 : 1);
  const double expected = sum / standard.count.item();
  REQUIRE(std::abs(expected - standard.loss.item()) > 0.1);

  const TrainingResult result = trainer.run();
  CHECK(in_training);
  CHECK(in_validation);
  CHECK(std::stod(rows_of(result.folder / "loss.csv", "train").front().at("loss")) == doctest::Approx(expected).epsilon(1e-5));
  // The model is the best one: its validation loss is that of the hook, and the log contains its bits per byte.
  const std::unique_ptr<Dataset> held_out = split_of(config, Split::Validation);
  const Evaluation own = evaluate(trainer.model(), *held_out, {.batch_size = 4, .loss = weighted_loss}),
                   usual = evaluate(trainer.model(), *held_out, {.batch_size = 4});
  CHECK(*result.validation_loss == doctest::Approx(own.mean_batch_loss()).epsilon(1e-6));
  CHECK(own.mean_batch_loss() > 1.2 * usual.mean_batch_loss());
  CHECK(own.bits_per_byte() == usual.bits_per_byte());
  CHECK(log_of(result.folder)
            .find(concat_text("validation loss ", shortest_text(*result.validation_loss), ", ", shortest_text(usual.bits_per_byte()),
                              " bits per byte")) != std::string::npos);
  CHECK(result.test_loss.has_value());
}

TEST_CASE("before_update sees the mean gradient of the step, and what it changes is clipped and applied") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  const RunConfig config = config_with(folder, "1", {"train.gradient_clipping=0.05", "train.max_steps=1"});
  std::vector<float> seen, expected;
  std::vector<StepInfo> infos;
  double norm = 0;
  TrainerHooks hooks;
  hooks.before_update = [&](Model& model, const StepInfo& info) {
    infos.push_back(info);
    seen = model.parameters().gradients().to_vector<float>();
    for (const auto& parameter : model.parameters().parameters())
      if (parameter->name() == "to_logits.weight") {
        Tensor gradient = parameter->gradient();
        std::fill_n(gradient.host_data<float>(), gradient.numel(), 0.0f);
      }
    for (const float x : model.parameters().gradients().to_vector<float>()) norm += static_cast<double>(x) * static_cast<double>(x);
  };
  Trainer trainer(config, DatasetRegistry(), {.hooks = hooks});

  Model model(config.model);
  model.allocate();
  model.initialize(static_cast<std::uint64_t>(config.train.seed));
  const std::unique_ptr<Dataset> text = split_of(config, Split::Train);
  for (const std::int64_t first : {0, 4}) backward(model.loss(read_batch(*text, {0, first, 4}, config.model).input).loss, {}, 0.5);
  expected = model.parameters().gradients().to_vector<float>();
  const std::vector<NamedTensor> before = model.parameters().named_values();

  const TrainingResult result = trainer.run();
  REQUIRE(infos.size() == 1);
  CHECK(infos[0].step == 1);
  CHECK(infos[0].micro_step == 2);
  CHECK(infos[0].learning_rate == doctest::Approx(0.01));
  CHECK(seen == expected);
  CHECK(result.state.gradient_norm == doctest::Approx(std::sqrt(norm)).epsilon(1e-6));
  const SafetensorsFile after(result.folder / "checkpoints/last.safetensors");
  int changed = 0;
  for (const NamedTensor& named : before) {
    const bool is_same = named.tensor.to_vector_as<float>() == after.tensor(named.name).to_vector_as<float>();
    if (named.name == "to_logits.weight") CHECK(is_same);
    changed += !is_same;
  }
  CHECK(changed > 10);
}

TEST_CASE("after_update may change the parameters") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  TrainerHooks hooks;
  hooks.after_update = [&](Model& model, const StepInfo& info) {
    Tensor bias = model.parameters().parameters().back()->value();  // of to_logits
    bias.host_data<float>()[3] = static_cast<float>(info.step);
    model.parameters().values_changed();
  };
  const TrainingResult result = run(config_with(folder, "1", {"train.precision=bfloat16"}), hooks);
  CHECK(SafetensorsFile(result.folder / "checkpoints/last.safetensors").tensor("to_logits.bias").to_vector<float>()[3] == 8);
}

TEST_CASE("learning rates of a hook are applied and logged") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  TrainerHooks hooks;
  hooks.learning_rate = [&](std::int64_t step, std::int64_t steps, double configured) {
    CHECK(steps == 8);
    CHECK(configured > 0);
    return step < 4 ? 0 : 0.25 * static_cast<double>(step);
  };
  std::vector<std::vector<float>> values;
  hooks.after_update = [&](Model& model, const StepInfo&) { values.push_back(model.parameters().values().to_vector<float>()); };
  const TrainingResult result = run(config_with(folder, "1"), hooks);
  REQUIRE(values.size() == 8);
  CHECK(values[0] == values[3]);
  CHECK(values[3] != values[4]);
  const std::vector<Row> rows = rows_of(result.folder / "loss.csv", "train");
  for (std::size_t i = 0; i < rows.size(); ++i) CHECK(std::stod(rows[i].at("lr")) == (i / 2 < 4 ? 0 : 0.25 * static_cast<double>(i / 2)));
}

TEST_CASE("an optimizer of the program's own gets clipped gradients and replaces Adam") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  for (const char* const precision : {"float32", "bfloat16"}) {
    std::vector<float> gradients, before;
    TrainerHooks hooks;
    hooks.make_optimizer = [](const Model& model) { return std::make_unique<Momentum>(model); };
    hooks.before_update = [&](Model& model, const StepInfo&) {
      gradients = model.parameters().gradients().to_vector<float>();
      before = model.parameters().values().to_vector<float>();
    };
    int steps = 0;
    hooks.after_update = [&](Model& model, const StepInfo& info) {
      if (++steps > 1) return;
      double square = 0;
      for (const float x : gradients) square += static_cast<double>(x) * static_cast<double>(x);
      const double clip = 0.05 / (std::sqrt(square) + 1e-6);
      REQUIRE(clip < 1);
      const std::vector<float> after = model.parameters().values().to_vector<float>();
      double worst = 0;
      for (std::size_t i = 0; i < after.size(); ++i)
        worst = std::max(worst, std::abs(after[i] - (before[i] - info.learning_rate * clip * static_cast<double>(gradients[i]))));
      CHECK(worst < 2e-7);
      CHECK(model.parameters().gradients().to_vector<float>() == gradients);
      if (model.parameters().bfloat16_values().defined()) {
        Tensor rounded = empty_like(model.parameters().bfloat16_values());
        convert(model.parameters().values(), rounded);
        CHECK(rounded.to_vector_as<float>() == model.parameters().bfloat16_values().to_vector_as<float>());
      }
    };
    const RunConfig config = config_with(folder, precision, {"train.gradient_clipping=0.05", concat_text("train.precision=", precision)});
    const TrainingResult result = run(config, hooks);
    CHECK(steps == 8);
    CHECK(result.state.steps == 8);
    CHECK(result.state.skipped_steps == 0);
    const SafetensorsFile state = last_state(result.folder);
    CHECK(state.has("optimizer.velocity"));
    CHECK_FALSE(state.has("first_moment"));
    CHECK(std::stod(rows_of(result.folder / "loss.csv", "train").back().at("smoothed_loss")) > 0);
  }
}

TEST_CASE("an optimizer of the program's own is not called for a step that is not finite") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  std::vector<std::int64_t> steps;
  struct Counting final : Optimizer {
    std::vector<std::int64_t>& steps;
    explicit Counting(std::vector<std::int64_t>& all) : steps(all) {}
    void step(Tensor&, const Tensor&, const StepInfo& info) override { steps.push_back(info.step); }
  };
  TrainerHooks hooks;
  hooks.make_optimizer = [&](const Model&) { return std::make_unique<Counting>(steps); };
  hooks.before_update = [](Model& model, const StepInfo& info) {
    Tensor gradients = model.parameters().gradients();
    if (info.step == 3) gradients.host_data<float>()[0] = std::numeric_limits<float>::infinity();
  };
  const TrainingResult result = run(config_with(folder, "skip", {"train.on_nonfinite=skip"}), hooks);
  CHECK(steps == std::vector<std::int64_t>{1, 2, 4, 5, 6, 7, 8});
  CHECK(result.state.skipped_steps == 1);
  CHECK_THROWS_AS(run(config_with(folder, "stop"), hooks), Error);
}

TEST_CASE("metrics are logged, and each row is reported as written") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  TrainerHooks hooks;
  std::vector<std::string> rows;
  hooks.on_row = [&](const LossRow& row) { rows.push_back(to_csv(row)); };
  hooks.metrics = [](const LossRow& row) {
    return row.kind == "train" ? std::vector<Metric>{{"own/number", 0.5 + static_cast<double>(row.cum_batch)}, {"own/other", -1}}
                               : std::vector<Metric>{{"own/valid", 7}};
  };
  const TrainingResult result = run(config_with(folder, "1", {"io.tensorboard=true"}), hooks);
  std::string table(loss_header);
  for (const std::string& row : rows) table += row;
  CHECK(table == read_file(result.folder / "loss.csv"));
  CHECK(rows.size() == 16 + 4 + 1);
  const std::string log = log_of(result.folder);
  CHECK(log.find("micro-step 5: own/number 4.5, own/other -1\n") != std::string::npos);
  CHECK(log.find("micro-step 6: own/valid 7\n") != std::string::npos);
  std::string events;
  for (const auto& file : fs::directory_iterator(result.folder / "tensorboard")) events += read_file(file.path());
  for (const char* tag : {"own/number", "own/other", "own/valid"}) CHECK(events.find(tag) != std::string::npos);
}

TEST_CASE("saved files are reported when they are complete") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  TrainerHooks hooks;
  std::vector<SavedFile> files;
  hooks.on_save = [&](const SavedFile& file) {
    files.push_back(file);
    CHECK(SafetensorsFile(file.path).names().size() > 3);  // complete
  };
  const TrainingResult result = run(config_with(folder, "1"), hooks);
  std::vector<SavedFile> best;
  std::copy_if(files.begin(), files.end(), std::back_inserter(best), [](const SavedFile& file) { return file.kind == SavedFile::Kind::Best; });
  REQUIRE(best.size() >= 2);
  CHECK(best.front().micro_step == 1);
  CHECK(best.front().step == 0);
  CHECK(best.back().validation_loss == result.validation_loss);
  CHECK(best.back().path == fs::canonical(result.folder / "checkpoints/best.safetensors"));
  REQUIRE(files.size() == best.size() + 2);
  CHECK(files.rbegin()[1].kind == SavedFile::Kind::State);
  CHECK(files.rbegin()[1].path == state_files(result.folder).back());
  CHECK(files.rbegin()[1].step == 8);
  CHECK(files.back().kind == SavedFile::Kind::Last);
  CHECK(files.back().path == result.folder / "checkpoints/last.safetensors");
  CHECK(files.back().micro_step == 16);
  CHECK_FALSE(files.back().validation_loss.has_value());
}

TEST_CASE("a hook can end the run, which then counts as finished") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  std::vector<ValidationReport> reports;
  int last_reported = -1;
  TrainerHooks hooks;
  // The second step has such a rate that the loss rises.
  hooks.learning_rate = [](std::int64_t step, std::int64_t, double) { return step == 0 ? 0.01 : 5; };
  hooks.end_run = [&](const ValidationReport& report) {
    CHECK(report.loss == report.evaluation.mean_batch_loss());
    CHECK(report.best_loss <= report.loss);
    CHECK((report.since_best == 0) == (report.best_loss == report.loss));
    reports.push_back(report);
    return report.since_best >= 1;
  };
  const RunConfig config = config_with(folder, "1", {"train.gradient_accumulate_every=4"});
  std::optional<Trainer> trainer;
  trainer.emplace(
      config, DatasetRegistry(),
      TrainerOptions{.callbacks = {.on_progress = [&](const TrainingProgress& progress) { last_reported = static_cast<int>(progress.micro_step); },
                                   .progress_interval = 1e9},
                     .hooks = hooks});
  const TrainingResult result = trainer->run();
  REQUIRE(reports.size() == 3);
  CHECK(reports.back().micro_step == 11);
  const std::int64_t end = 12;  // completes its group
  CHECK(result.ended_early);
  CHECK_FALSE(result.stopped);
  CHECK(result.state.micro_step == end);
  CHECK(last_reported == end);
  CHECK(reports.back().validations == static_cast<std::int64_t>(reports.size()));
  CHECK(*result.validation_loss == reports.back().best_loss);
  CHECK(result.test_loss.has_value());
  CHECK(log_of(result.folder).find(concat_text("a hook ends the run after micro-step ", reports.back().micro_step, " of 16\n")) != std::string::npos);
  CHECK(last_state(result.folder).tensor("values").to_vector<float>() !=
        trainer->model().parameters().values().to_vector<float>());  // the best model
  trainer.reset();                                                   // unlocks the folder

  // Resuming it as it is trains no further; with a greater length it continues.
  CHECK(resume(result.folder, hooks).state.micro_step == end);
  hooks.end_run = [](const ValidationReport&) { return false; };
  const TrainingResult longer = resume(result.folder, hooks, nullptr, {"train.target_elements=96"});
  CHECK(longer.state.micro_step == 24);
  CHECK_FALSE(longer.ended_early);
}

TEST_CASE("a run with every hook resumes to the outcome of an uninterrupted run") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  Everything whole, first, second;
  const TrainingResult expected = run(config_with(folder, "whole"), whole.hooks);
  CHECK(expected.ended_early);
  CHECK(expected.state.micro_step == 12);
  CHECK(values_in(expected.folder, "hook.average") == whole.average.to_vector<float>());
  for (const int stop : {3, 6, 9}) {
    const TrainingResult stopped = run(config_with(folder, concat_text("stopped", stop)), first.hooks, stop_after(stop));
    REQUIRE(stopped.stopped);
    CHECK_FALSE(stopped.ended_early);
    CHECK(resume(stopped.folder, second.hooks).ended_early);
    check_same(stopped.folder, outcome_of(expected.folder));
    CHECK(second.average.to_vector<float>() == whole.average.to_vector<float>());
  }
}

TEST_CASE("workers call the hooks with the same values, and the first one logs and saves") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  std::mutex mutex;
  std::map<int, std::vector<std::vector<float>>> gradients;
  int rows = 0, files = 0;
  const auto train = [&](const std::string& id, int stop) {
    std::vector<TrainingResult> results(2);
    const std::vector<std::string> errors = run_workers(2, [&](Communicator& communicator) {
      const int rank = communicator.rank();
      Everything own;
      const auto change = own.hooks.before_update;
      own.hooks.before_update = [&, change](Model& model, const StepInfo& info) {
        const std::lock_guard lock(mutex);
        gradients[rank].push_back(model.parameters().gradients().to_vector<float>());
        change(model, info);
      };
      own.hooks.on_row = [&](const LossRow&) {
        require(rank == 0, "row on rank ", rank);
        ++rows;
      };
      own.hooks.metrics = [&](const LossRow&) {
        require(rank == 0, "metrics on rank ", rank);
        return std::vector<Metric>{{"m", 1}};
      };
      own.hooks.on_save = [&](const SavedFile&) {
        require(rank == 0, "file on rank ", rank);
        ++files;
      };
      const auto end = own.hooks.end_run;
      own.hooks.end_run = [&, end](const ValidationReport& report) {
        require(rank == 0, "end on rank ", rank);
        return end(report);
      };
      const RunConfig config = config_with(folder, id, {"train.batch_size=2"});
      TrainingResult result = run(config, own.hooks, stop == 0 ? std::function<bool()>() : stop_after(stop), &communicator);
      if (stop != 0) {
        require(result.stopped, "expected to stop");
        result = resume(result.folder, own.hooks, &communicator);
      }
      require(result.ended_early, "expected an early end");
      results[static_cast<std::size_t>(rank)] = result;
    });
    for (const std::string& error : errors) CHECK(error == "");
    CHECK(results[0].state.micro_step == results[1].state.micro_step);
    return results[0].folder;
  };
  const fs::path whole = train("whole", 0);
  CHECK(gradients[0].size() == 6);
  CHECK(gradients[0] == gradients[1]);
  CHECK(rows > 10);
  CHECK(files >= 3);
  const fs::path stopped = train("stopped", 2);
  check_same(stopped, outcome_of(whole));
}

TEST_CASE("wrong hooks are reported in one line") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  int runs = 0;
  const auto message = [&](const TrainerHooks& hooks) {
    return message_of<Error>([&] { run(config_with(folder, concat_text("wrong", ++runs)), hooks); });
  };
  CHECK(message({.loss = [](const Model& model, const ModelInput& input, const ForwardContext& context) {
          return model.prediction_logits(input, context);
        }}) == "trainer hooks: loss: expected a scalar, got shape (4, 32, 256)");
  CHECK(message({.loss = [](const Model&, const ModelInput&, const ForwardContext&) { return Tensor(); }}) ==
        "trainer hooks: loss: expected a scalar, got an undefined tensor");
  CHECK(message({.loss = [](const Model& model, const ModelInput& input, const ForwardContext& context) {
          return model.loss(input, context).loss.detach();
        }}) == "trainer hooks: loss: expected a loss that depends on the parameters, it has no gradient");
  CHECK(read_file(folder / "runs/tiny_wrong3/config.yaml").find("it has no gradient") != std::string::npos);
  const auto two = [](const Model&) {
    return std::vector<NamedTensor>{{"a", zeros(Shape{1}, DType::Float32)}, {"a", zeros(Shape{1}, DType::Float32)}};
  };
  CHECK(message({.state = two}) == "trainer hooks: state: duplicate name a");
  CHECK(message({.state = [](const Model&) {
          return std::vector<NamedTensor>{{"a", Tensor()}};
        }}) == "trainer hooks: state: a: expected a tensor, it is undefined");
  CHECK_FALSE(fs::exists(folder / "runs/tiny_wrong5"));
  CHECK(message({.before_update = [](Model&, const StepInfo& info) { require(info.step < 3, "the hook failed"); }}) == "the hook failed");
  CHECK(read_file(folder / "runs/tiny_wrong6/config.yaml").find("the hook failed") != std::string::npos);
}

TEST_CASE("a run with hooks is not resumed without them") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  Everything hooks;
  const fs::path with = run(config_with(folder, "with"), hooks.hooks, stop_after(4)).folder,
                 without = run(config_with(folder, "without"), {}, stop_after(4)).folder;
  const std::map<std::string, std::string> before = outcome_of(with);
  CHECK(message_of<ConfigError>([&] { resume(with, {}); }) ==
        with.string() +
            ": the run uses trainer hooks of its program: loss, before_update, after_update, learning_rate, make_optimizer, state, end_run; "
            "this program sets none. Resume it with the program that began it");
  check_same(with, before);
  CHECK(message_of<ConfigError>([&] {
          resume(without, {.loss = weighted_loss});
        }).ends_with("of its program: none; this program sets loss. Resume it with the program that began it"));
  CHECK(resume(without, {.on_row = [](const LossRow&) {}}).state.micro_step == 16);  // changes no result
  // A state of another size is refused before anything changes.
  hooks.hooks.state = [&](const Model&) {
    hooks.average = zeros(Shape{7}, DType::Float32);
    return std::vector<NamedTensor>{{"average", hooks.average}};
  };
  CHECK(message_of<FileError>([&] { resume(with, hooks.hooks); }).find("hook.average: expected float32 of shape (7), found float32 of shape (") !=
        std::string::npos);
}

}  // namespace mblm::testing
