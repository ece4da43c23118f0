// Limits of a run, its optimizer and schedule, and runs that are extended.
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <sstream>

#include "engine/io/safetensors.h"
#include "tests/error_text.h"
#include "tests/run_outcome.h"
#include "tests/tiny_run.h"
#include "train/optimizer.h"
#include "train/run_state.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

namespace fs = std::filesystem;

// The training data have 125 sequences of 32 bytes: 31 batches of 4 in each epoch.
struct TinyRuns {
  TemporaryFolder folder;
  std::string file = prepare_tiny_run(folder);

  RunConfig config(const std::string& id, Overrides more = {}) const {
    more.insert(more.begin(), {"io.run_id=" + id, "io.log_train_loss_amount=1000"});
    return read_run_config(file, BlockRegistry(), more);
  }
  TrainingResult train(const std::string& id, const Overrides& more = {}, TrainerCallbacks callbacks = {}) const {
    return Trainer(config(id, more), DatasetRegistry(), {.callbacks = std::move(callbacks)}).run();
  }
  fs::path run(const std::string& id) const { return folder / ("runs/tiny_" + id); }
  TrainingResult resume(const std::string& id, const Overrides& more = {}, TrainerCallbacks callbacks = {}) const {
    return Trainer(read_config_of_run(run(id), BlockRegistry(), more), DatasetRegistry(), {.resume_folder = run(id), .callbacks = std::move(callbacks)}).run();
  }
};

// The column `lr` of the training rows of loss.csv.
std::vector<double> learning_rates(const fs::path& run) {
  std::vector<double> rates;
  std::istringstream lines(read_file(run / "loss.csv"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::vector<std::string> values;
    for (std::string value; std::getline(fields, value, ',');) values.push_back(value);
    if (values[3] == "train") rates.push_back(std::stod(values[8]));
  }
  return rates;
}

TrainerCallbacks stop_after(std::int64_t micro_steps, std::int64_t& asked) {
  return {.on_progress = [&asked](const TrainingProgress& p) { asked = p.micro_step; }, .progress_interval = 0,
          .should_stop = [&asked, micro_steps] { return asked >= micro_steps; }};
}

fs::path newest_state(const fs::path& run) {
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(run / "state"))
    if (entry.path().extension() == ".safetensors" && (newest.empty() || entry.last_write_time() > fs::last_write_time(newest))) newest = entry.path();
  REQUIRE_FALSE(newest.empty());
  return newest;
}

}  // namespace

TEST_CASE("the first limit that is reached ends a run") {
  const TinyRuns runs;
  auto micro_steps = [&, id = 0](const Overrides& more) mutable { return runs.train(std::to_string(++id), more).state.micro_step; };
  CHECK(micro_steps({"train.target_elements=null", "train.epochs=1"}) == 31);
  CHECK(micro_steps({"train.target_elements=null", "train.epochs=2", "train.max_steps=5"}) == 5);
  CHECK(micro_steps({"train.target_elements=null", "train.max_steps=3", "train.gradient_accumulate_every=2"}) == 6);
  CHECK(micro_steps({"train.target_elements=8", "train.epochs=2", "train.max_steps=5"}) == 2);
  const std::vector<double> rates = learning_rates(runs.run("2"));
  REQUIRE(rates.size() == 5);
  CHECK(rates[4] == doctest::Approx(0.01 * (1 + std::cos(M_PI * 4 / 5)) / 2));  // the schedule spans the five steps
  CHECK(error_text<ConfigError>([&] { runs.config("x", {"train.target_elements=null"}); }).find("train.target_elements: expected a length of the run") !=
        std::string::npos);
}

TEST_CASE("betas, eps, weight decay and the schedule change what is trained, and their defaults change nothing") {
  const TinyRuns runs;
  const auto outcome = [&](const std::string& id, const Overrides& more) {
    runs.train(id, more);
    return read_run_state(newest_state(runs.run(id))).tensors.tensor("values").to_vector<float>();
  };
  std::set<std::vector<float>> different;
  const std::vector<float> plain = outcome("plain", {});
  CHECK(outcome("defaults", {"train.betas=[0.9, 0.95]", "train.eps=1.0e-8", "train.weight_decay=0", "train.schedule=cosine",
                             "train.min_learning_rate=0"}) == plain);
  int id = 0;
  for (const char* field : {"train.betas=[0.8, 0.95]", "train.betas=[0.9, 0.9]", "train.eps=0.001", "train.weight_decay=0.1", "train.schedule=linear",
                            "train.schedule=constant", "train.min_learning_rate=0.005"})
    different.insert(outcome(std::to_string(++id), {field}));
  CHECK(different.size() == 7);
  CHECK(different.count(plain) == 0);
}

TEST_CASE("weight decay applies to matrices only") {
  const std::string text =
      "num_tokens: 256\npad_token_id: 0\nhidden_dims: [16, 16]\nseq_lens: [8, 4]\nnum_layers: [1, 1]\nblock:\n"
      "  - {block_type: mamba1, d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: fixed}\n"
      "  - {block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true}\n";
  Model model(parse_model_config(text, "model", BlockRegistry()));
  model.allocate();
  model.initialize(1);
  ParameterStore& parameters = model.parameters();
  const Tensor before = clone(parameters.values());
  Adam adam(parameters, {.adam = {.weight_decay = 0.5}});
  Tensor scalars = make_step_scalars();
  write_step_scalar(scalars, &StepScalars::learning_rate, 0.25);
  adam.step(scalars);  // the gradients are zero
  int decayed = 0, kept = 0;
  for (const auto& parameter : parameters.parameters()) {
    CAPTURE(parameter->name());
    const std::int64_t begin = parameter->offset(), end = begin + parameter->shape().numel();
    const std::vector<float> old = before.slice(begin, end).to_vector<float>(), now = parameters.values().slice(begin, end).to_vector<float>();
    const std::string& name = parameter->name();
    const bool is_matrix = parameter->shape().rank() == 2 && !name.ends_with("A_log");
    CHECK(has_weight_decay(*parameter) == is_matrix);
    if (name.ends_with("bias") || name.ends_with("gamma") || name.ends_with("conv1d.weight")) CHECK_FALSE(is_matrix);
    for (std::size_t i = 0; i < old.size(); ++i) REQUIRE(now[i] == (is_matrix ? 0.875f * old[i] : old[i]));
    ++(is_matrix ? decayed : kept);
  }
  CHECK(decayed > 5);
  CHECK(kept > 5);
}

TEST_CASE("a finished run is extended: the learning rate is that of the new length, with the old warm-up") {
  const TinyRuns runs;
  const Overrides warm{"train.warmup_steps_perc=0.25"}, longer{"train.target_elements=256"};
  CHECK(runs.train("a", warm).state.micro_step == 16);
  const std::vector<double> first = learning_rates(runs.run("a"));
  const TrainingResult extended = runs.resume("a", longer);
  CHECK(extended.state.micro_step == 64);
  CHECK(extended.state.epoch == 2);
  const std::vector<double> rates = learning_rates(runs.run("a"));
  REQUIRE(rates.size() == 64);
  for (std::size_t step = 0; step < 16; ++step) CHECK(rates[step] == first[step]);
  for (std::size_t step = 16; step < 64; ++step)
    CHECK(rates[step] == doctest::Approx(0.01 * (1 + std::cos(M_PI * (static_cast<double>(step) - 4) / 60)) / 2));  // 4 warm-up steps, not 16
  CHECK(read_file(runs.run("a") / "config.yaml").find("target_elements: 256\n") != std::string::npos);

  // A stop within the extension changes nothing.
  runs.train("b", warm);
  std::int64_t asked = 0;
  CHECK(runs.resume("b", longer, stop_after(30, asked)).state.micro_step == 30);
  CHECK(runs.resume("b").state.micro_step == 64);
  check_same(runs.run("b"), outcome_of(runs.run("a")));

  const std::string message = error_text<ConfigError>([&] { runs.resume("a", {"train.target_elements=100"}); });
  CHECK(message == runs.run("a").string() +
                       ": expected a length (train.target_elements, max_steps or epochs) of at least the 64 micro-steps that are done, got 25");
  CHECK(runs.resume("a", {"train.target_elements=null", "train.max_steps=70"}).state.micro_step == 70);
}

TEST_CASE("a state that an older program saved resumes with the same bits") {
  const TinyRuns runs;
  runs.train("whole");
  std::int64_t asked = 0;
  runs.train("old", {}, stop_after(7, asked));
  const fs::path file = newest_state(runs.run("old"));
  {
    SavedState saved = read_run_state(file);
    std::vector<NamedTensor> tensors;
    for (const std::string& name : saved.tensors.names()) tensors.push_back({name, clone(saved.tensors.tensor(name))});
    REQUIRE(saved.state.warmup_steps);
    saved.state.warmup_steps.reset();
    std::string fields;
    std::istringstream lines(saved.state.config);
    for (std::string line; std::getline(lines, line);) {
      bool is_new = false;
      for (const char* name : {"schedule", "min_learning_rate", "weight_decay", "betas", "eps"}) is_new = is_new || line.starts_with(concat_text("  ", name, ":"));
      if (!is_new) fields += line + "\n";
      if (line == "train:") fields += "  target_elements: 64\n";  // was not to change
    }
    REQUIRE(fields.size() < saved.state.config.size());
    saved.state.config = fields;
    write_run_state(file, saved.state, tensors);
  }
  CHECK(error_text<ConfigError>([&] { runs.resume("old", {"train.weight_decay=0.1"}); })
            .ends_with("cannot change fields of a run: train.weight_decay (0.0, now 0.1)"));
  runs.resume("old");
  check_same(runs.run("old"), outcome_of(runs.run("whole")));
}

TEST_CASE("a run describes itself when it starts") {
  const TinyRuns runs;
  Trainer trainer(runs.config("1"), DatasetRegistry(), {.dry_run = true});
  std::string text;
  for (const std::string& line : trainer.describe()) text += line + "\n";
  INFO(text);
  for (const std::string& part :
       {std::string("model: "), std::string(" k parameters, mamba2 1 x 16: "), std::string(", transformer 1 x 16: "), std::string("start: new parameters, seed 0"),
        std::string("device: cpu ("), std::string("float32"), "data: files, " + (runs.folder / "text").string(), std::string("training: 12"),
        std::string("validation: "), std::string("test: "), (runs.folder / "text/train/a.txt").string(),
        std::string("steps: 16 optimizer steps of 4 x 32 bytes, 1 of them warm-up; 16 micro-steps, 0.5 epochs"), std::string("memory: about "),
        std::string(" free"), "folder: " + runs.run("1").string()})
    CHECK_MESSAGE(text.find(part) != std::string::npos, part);
  CHECK_FALSE(fs::exists(runs.folder / "runs"));
  CHECK(error_text<Error>([&] { trainer.run(); }) == "train: cannot run after a dry run");
  fs::rename(runs.folder / "text/train", runs.folder / "text/all");
  const auto plain = Trainer(runs.config("1", {"train.target_elements=8"}), DatasetRegistry(), {.dry_run = true}).describe();
  const auto has = [&](const std::string& part) {
    return std::any_of(plain.begin(), plain.end(), [&](const std::string& line) { return line.find(part) != std::string::npos; });
  };
  CHECK(has("split by file order: the first 90 % are for training, then 5 % for test, the last 5 % for validation"));
  CHECK(has(" of 3 files of " + (runs.folder / "text").string()));
  runs.train("1", {"train.target_elements=8"});
  CHECK(read_file(runs.run("1") / "train.log").find("split by file order") != std::string::npos);
  CHECK(error_text<FileError>([&] { Trainer(runs.config("1"), DatasetRegistry(), {.dry_run = true}); }).find("already exists") != std::string::npos);
}

}  // namespace mblm::testing
