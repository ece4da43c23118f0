// A run that is stopped, killed or fails at any time and is resumed has the same outcome as an uninterrupted run.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/error.h"
#include "tests/run_outcome.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Overrides that enable all random numbers and all state between steps: dropout, shuffling, groups of three micro-steps that span
// the epochs of 31 batches, and checkpoints that are replaced.
const std::vector<std::string> fields{"train.gradient_accumulate_every=3", "train.shuffle_train=true",   "train.shuffle_eval=true",
                                      "train.target_elements=280",         "io.num_models_to_save=2",    "io.validate_amount=6",
                                      "io.log_train_loss_amount=20",       "params.block[1].ff_dropout=0.1"};

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A config with data, and the outcome of its uninterrupted run.
struct Reference {
  TemporaryFolder folder;  // also contains the compared runs, each with its own id
  std::string config = prepare_tiny_run(folder);
  std::map<std::string, std::string> outcome;

  explicit Reference(const std::vector<std::string>& more = {}) {
    const ProgramResult result = run_program(train("whole", joined({"train.save_state_every=0"}, more)));
    INFO(result.err);
    REQUIRE(result.status == 0);
    outcome = outcome_of(run("whole"));
    REQUIRE(outcome.size() == 8);  // two checkpoints, the link, the last one, two tables, the samples, the state
    REQUIRE(std::count(outcome["samples"].begin(), outcome["samples"].end(), '\n') == 6);
  }

  fs::path run(const std::string& id) const { return folder / ("runs/tiny_" + id); }
  std::vector<std::string> train(const std::string& id, const std::vector<std::string>& more = {}) const {
    return joined(joined({"train", config, "io.run_id=" + id}, fields), more);
  }
  std::vector<std::string> resume(const std::string& id) const { return {"resume", run(id).string()}; }

  void check_end(const std::string& id, const std::vector<std::string>& arguments) const {
    const ProgramResult result = run_program(arguments);
    INFO(result.err);
    CHECK(result.status == 0);
    CHECK(result.out == run(id).string() + "\n");
    check_same(run(id), outcome);
  }
};

const Reference& common_reference() {
  static const Reference reference;
  return reference;
}

// Waits until done() returns true or the program ends.
bool wait_until(RunningProgram& program, const std::function<bool()>& done) {
  while (!program.ended()) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

bool is_writing_state(const fs::path& run) {
  for (const std::string& name : listing(run / "state"))
    if (contains(name, ".safetensors.tmp")) return true;
  return false;
}

// Limits the file size of programs started during its lifetime.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

// Stops the run `id` by a signal once it has a state of at least `micro_step` micro-steps.
ProgramResult stop_at(const Reference& reference, const std::string& id, std::int64_t micro_step, int signal) {
  RunningProgram program(reference.train(id, {"train.save_state_every=0.000001"}));
  REQUIRE(wait_until(program, [&] { return saved_micro_steps(reference.run(id)) >= micro_step; }));
  program.send(signal);
  return program.wait();
}

// Ends a program before `target` micro-steps by the method `kind`.
void interrupt(const Reference& reference, std::vector<std::string> arguments, int kind, std::int64_t target, int delay) {
  const fs::path run = reference.run("killed");
  const std::vector<fs::path> states = state_files(run);
  if (kind == 2 && !states.empty()) {  // a limit that allows checkpoints but not states
    const FileSizeLimit limit(fs::file_size(states.back()) * 2 / 3);
    const ProgramResult result = run_program(arguments);
    INFO(result.err);
    CHECK(result.status == 1);
    CHECK(contains(result.err, "cannot write"));
    CHECK(result.err.find("mblm: ") == result.err.rfind("mblm: "));  // one error
    return;
  }
  RunningProgram program(arguments);
  const auto reached = [&] { return saved_micro_steps(run) >= target && (kind != 1 || is_writing_state(run)); };
  CHECK(wait_until(program, reached));
  if (kind != 1) std::this_thread::sleep_for(std::chrono::milliseconds(delay));
  program.send(SIGKILL);
  CHECK(program.wait().status == 128 + SIGKILL);
}

}  // namespace

TEST_CASE("a run that is killed at random times, also while saving, or whose writes fail has the same outcome") {
  const Reference& reference = common_reference();
  const int kills = std::getenv("MBLM_LONG") == nullptr ? 4 : 28;  // one in four is a failed write
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<std::string> arguments = reference.train("killed", {"train.save_state_every=0.000001"});
  for (int kill = 0; kill < kills; ++kill) {
    const std::int64_t earliest = 60 * kill / kills;
    interrupt(reference, arguments, kill % 4, earliest + static_cast<std::int64_t>(random() % 3), static_cast<int>(random() % 8));
    REQUIRE(saved_micro_steps(reference.run("killed")) >= 0);
    arguments = reference.resume("killed");
  }
  reference.check_end("killed", arguments);
  CHECK(state_files(reference.run("killed")).size() == 2);
  for (const std::string& name : listing(reference.run("killed"))) CHECK_FALSE(contains(name, ".tmp"));
  reference.check_end("killed", arguments);  // resuming a completed run has the same outcome
}

TEST_CASE("a run that is killed before its first state restarts from the beginning") {
  const Reference& reference = common_reference();
  {
    RunningProgram program(reference.train("early", {"train.save_state_every=0"}));
    REQUIRE(wait_until(program, [&] { return fs::exists(reference.run("early") / "checkpoints/best.safetensors"); }));
    program.send(SIGKILL);
    CHECK(program.wait().status == 128 + SIGKILL);
  }
  REQUIRE(state_files(reference.run("early")).empty());
  reference.check_end("early", reference.resume("early"));
}

TEST_CASE("signals save the state and report how to resume") {
  const Reference& reference = common_reference();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
    const std::string id = std::to_string(signal);
    const ProgramResult result = stop_at(reference, id, 10, signal);
    INFO(result.err);
    CHECK(result.status == 128 + signal);
    CHECK(result.out.empty());
    CHECK(contains(result.err, concat_text("; resume with: mblm resume ", reference.run(id).string(), "\n")));
    reference.check_end(id, reference.resume(id));
  }
}

TEST_CASE("a damaged state is replaced by the previous one, with a warning") {
  const Reference& reference = common_reference();
  CHECK(stop_at(reference, "damaged", 20, SIGTERM).status == 128 + SIGTERM);
  const std::vector<fs::path> states = state_files(reference.run("damaged"));
  REQUIRE(states.size() == 2);
  const std::string newest = read_file(states[1]), older = read_file(states[0]);
  const auto flipped = [](std::string bytes, std::size_t at) {
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    return bytes;
  };

  write_file(states[0], flipped(older, older.size() / 3));
  write_file(states[1], newest.substr(0, newest.size() / 2));
  const std::vector<std::string> before = listing(reference.run("damaged"));
  const ProgramResult refused = run_program(reference.resume("damaged"));
  CHECK(refused.status == 1);
  CHECK(contains(refused.err, states[0].string() + ": damaged: expected checksum "));
  CHECK(contains(refused.err, states[1].string()));
  CHECK(contains(refused.err, "no intact state is left"));
  CHECK(listing(reference.run("damaged")) == before);

  write_file(states[0], older);
  write_file(states[1], flipped(newest, newest.size() - 1));
  const ProgramResult result = run_program(reference.resume("damaged"));
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(contains(result.err, "mblm: warning: " + states[1].string() + ": damaged: expected checksum "));
  CHECK(contains(result.err, states[0].string()));
  CHECK(fs::exists(states[1].string() + ".damaged"));
  check_same(reference.run("damaged"), reference.outcome);
}

TEST_CASE("a run that started from a checkpoint can be resumed") {
  const Reference& first = common_reference();
  const std::vector<std::string> start{"resume.checkpoint_file=" + (first.run("whole") / "checkpoints/best.safetensors").string(),
                                       "resume.next_epoch_index=1", "resume.next_batch_index=3"};
  const Reference reference(start);
  {
    RunningProgram program(reference.train("1", joined(start, {"train.save_state_every=0"})));
    REQUIRE(wait_until(program, [&] { return fs::exists(reference.run("1") / "config.yaml"); }));
    program.send(SIGKILL);
    program.wait();
  }
  CHECK(saved_micro_steps(reference.run("1")) == 0);
  reference.check_end("1", reference.resume("1"));
  CHECK(contains(read_file(reference.run("1") / "config.yaml"), "checkpoint_file: " + first.run("whole").string()));
}

TEST_CASE("a file truncated during the run ends it with one line, and the run resumes once the file is restored") {
  const Reference& reference = common_reference();
  const fs::path file = reference.folder / "text/train/a.txt";
  const std::string text = read_file(file);
  RunningProgram program(reference.train("shrunk", {"train.save_state_every=0.000001"}));
  REQUIRE(wait_until(program, [&] { return saved_micro_steps(reference.run("shrunk")) >= 5; }));
  fs::resize_file(file, 10);
  const ProgramResult result = program.wait();
  write_file(file, text);
  CHECK(result.status == 1);
  CHECK(result.err.ends_with(concat_text("\nmblm: ", file.string(), ": expected ", text.size(), " bytes, found 10: the file was truncated while in use\n")));
  reference.check_end("shrunk", reference.resume("shrunk"));
}

TEST_CASE("a run is used by one process at a time") {
  const Reference& reference = common_reference();
  RunningProgram program(reference.train("locked", {"train.target_elements=1_000_000_000"}));
  const fs::path run = reference.run("locked");
  REQUIRE(wait_until(program, [&] { return fs::exists(run / "checkpoints/best.safetensors"); }));
  for (const std::vector<std::string>& arguments : {reference.train("locked"), reference.resume("locked")}) {
    const ProgramResult second = run_program(arguments);
    CHECK(second.status == 1);
    CHECK(contains(second.err, "mblm: " + run.string() + ": the run "));
    CHECK(contains(second.err, concat_text(" in use by process ", program.id(), "\n")));
  }
  program.send(SIGTERM);
  const ProgramResult stopped = program.wait();
  INFO(stopped.err);
  CHECK(stopped.status == 128 + SIGTERM);
  CHECK(contains(run_program(reference.train("locked")).err, "set another io.run_id, or resume the run with mblm resume"));
}

TEST_CASE("fields that determine what a run computes cannot change") {
  const Reference& reference = common_reference();
  CHECK(stop_at(reference, "kept", 10, SIGTERM).status == 128 + SIGTERM);
  const fs::path run = reference.run("kept");
  const std::string config = read_file(run / "config.yaml"), losses = read_file(run / "loss.csv");
  const auto refused = [&](const std::vector<std::string>& overrides, const std::vector<std::string>& parts) {
    const ProgramResult result = run_program(joined(reference.resume("kept"), overrides));
    INFO(result.err);
    CHECK(result.status == 1);
    for (const std::string& part : parts) CHECK(contains(result.err, part));
    CHECK(read_file(run / "config.yaml") == config);
    CHECK(read_file(run / "loss.csv") == losses);
  };
  refused({"train.seed=7", "params.block[1].ff_dropout=0.2", "train.betas=[0.9, 0.9]", "train.schedule=linear"},
          {"params.block[1].ff_dropout (0.1, now 0.2), train.betas[1] (0.95, now 0.9), train.schedule (cosine, now linear), train.seed (0, now 7)"});
  refused({"train.target_elements=20"}, {"of at least the ", " micro-steps that are done, got 5"});
  refused({"params.num_layers=[1,2]"}, {"params.num_layers[1] (1, now 2)"});
  refused({"io.num_models_to_save=1"}, {"io.num_models_to_save (2, now 1)"});
  refused({"io.output_dir=elsewhere"}, {"io.output_dir: cannot change", "elsewhere"});
  refused({"train.speed=1"}, {"train.speed"});
  for (const char* split : {"train", "validation", "test"}) reference.folder.write(std::string("other/") + split + "/a.txt", words(2000));
  refused({"io.dataset_dir=" + (reference.folder / "other").string()}, {"the training data changed since the run began (125 sequences, now ", "--accept-changed-data"});

  fs::rename(run, reference.folder / "moved");  // a run folder can be moved
  const ProgramResult moved = run_program({"resume", reference.folder / "moved", "train.save_state_every=5", "train.on_nonfinite=skip",
                                           "io.description=none"});
  INFO(moved.err);
  CHECK(moved.status == 0);
  std::map<std::string, std::string> outcome = outcome_of(reference.folder / "moved");
  CHECK(outcome == reference.outcome);
}

TEST_CASE("a folder that is not a run cannot be resumed") {
  const TemporaryFolder folder;
  folder.write("file", "x");
  fs::create_directories(folder / "bare/state");
  for (const char* name : {"none", "file", "bare"}) {
    const ProgramResult result = run_program({"resume", folder / name});
    CHECK(result.status == 1);
    CHECK(result.err == concat_text("mblm: ", (folder / name).string(), ": expected a run folder, config.yaml is missing\n"));
  }
}

TEST_CASE("a table with fewer rows than the state counts is an error") {
  const Reference& reference = common_reference();
  CHECK(stop_at(reference, "rows", 10, SIGTERM).status == 128 + SIGTERM);
  write_file(reference.run("rows") / "loss.csv", "gpu_rank\n");
  const ProgramResult result = run_program(reference.resume("rows"));
  CHECK(result.status == 1);
  CHECK(contains(result.err, "loss.csv: expected at least "));
}

TEST_CASE("a run stopped at any call of should_stop, also within a validation, has the same outcome") {
  std::string precision;
  SUBCASE("in float32") { precision = "float32"; }
  SUBCASE("in bfloat16") { precision = "bfloat16"; }
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const auto config = [&](const std::string& id) {
    return read_run_config(file, BlockRegistry(), joined(fields, {"io.run_id=" + id, "train.target_elements=24", "io.validate_amount=3",
                                                                  "train.batch_size=3", "train.precision=" + precision}));
  };
  const fs::path whole = Trainer(config("whole"), DatasetRegistry()).run().folder;
  const std::map<std::string, std::string> outcome = outcome_of(whole);
  int within_validation = 0;
  for (int question = 1;; ++question) {
    int asked = 0;
    const std::string id = std::to_string(question);
    const TrainerCallbacks callbacks{.should_stop = [&] { return ++asked == question; }};
    const TrainingResult first = Trainer(config(id), DatasetRegistry(), {.callbacks = callbacks}).run();
    if (!first.stopped) break;
    within_validation += first.state.validation_due != 0;
    CAPTURE(question);
    const TrainingResult rest = Trainer(read_config_of_run(first.folder, BlockRegistry()), DatasetRegistry(), {.resume_folder = first.folder}).run();
    CHECK_FALSE(rest.stopped);
    check_same(first.folder, outcome);
    fs::remove_all(first.folder);
  }
  CHECK(within_validation >= 3);
}

TEST_CASE("changed training data is an error, which can be accepted") {
  const Reference reference;  // its own data
  CHECK(stop_at(reference, "data", 10, SIGTERM).status == 128 + SIGTERM);
  const fs::path file = reference.folder / "text/train/a.txt", run = reference.run("data");
  const std::string text = read_file(file), config = read_file(run / "config.yaml");
  std::string other = text;
  other[other.size() / 2] ^= 1;  // as many bytes
  write_file(file, other);
  const ProgramResult refused = run_program(reference.resume("data"));
  CHECK(refused.status == 1);
  CHECK(contains(refused.err, ": the training data changed since the run began ("));
  CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
  CHECK(read_file(run / "config.yaml") == config);
  write_file(file, text);  // the same bytes at another time
  fs::copy(run, reference.folder / "accepted", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  reference.check_end("data", reference.resume("data"));
  write_file(file, other);
  const ProgramResult accepted = run_program({"resume", reference.folder / "accepted", "--accept-changed-data"});
  INFO(accepted.err);
  CHECK(accepted.status == 0);
  CHECK(contains(accepted.err, "mblm: warning: "));
  CHECK(contains(read_file(reference.folder / "accepted/train.log"), "the training data changed since the run began"));
}

}  // namespace mblm::testing
