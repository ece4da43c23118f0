// The program on several workers started by mpirun. tests/workers_test.cpp tests the trainer on several workers in detail.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <thread>

#include "engine/error.h"
#include "tests/dealt_dataset.h"
#include "tests/run_outcome.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Arguments of mpirun: starts `count` workers of a program, with a timeout of 60 seconds.
std::vector<std::string> workers(int count, const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> words{"--bind-to", "none", "--timeout", "60", "-n", std::to_string(count), program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}
std::vector<std::string> program(int count, const std::vector<std::string>& arguments) { return workers(count, MBLM_TRAINING_PROGRAM, arguments); }

// Lines of the program's output, without mpirun's.
std::vector<std::string> notes_in(const std::string& text) {
  std::vector<std::string> notes;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("mblm: ")) notes.push_back(line);
  return notes;
}

// The workers started by an mpirun process.
std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  for (const auto& task : fs::directory_iterator(concat_text("/proc/", parent, "/task"))) {
    std::istringstream ids(read_file(task.path() / "children"));
    for (pid_t id; ids >> id;) children.push_back(id);
  }
  std::sort(children.begin(), children.end());
  return children;
}

// Whether the process has ended, including zombies.
bool has_ended(pid_t id) {
  const std::string status = read_file(concat_text("/proc/", id, "/stat"));
  return status.empty() || contains(status, ") Z ");
}

bool wait_until(RunningProgram& running, const std::function<bool()>& done) {
  while (!running.ended()) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

// Overrides that enable dropout, shuffling, and groups that span epochs.
std::vector<std::string> fields(const std::string& config, const std::string& id, const std::vector<std::string>& more = {}) {
  std::vector<std::string> words{"train", config, "io.run_id=" + id, "train.gradient_accumulate_every=3", "train.shuffle_train=true", "train.target_elements=560",
                                 "io.num_models_to_save=2", "io.validate_amount=6", "io.log_train_loss_amount=20", "io.enabled_loss_log_for_gpus=[0, 1]",
                                 "params.block[1].ff_dropout=0.1"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// The outcome of an uninterrupted run of two workers.
struct Reference {
  TemporaryFolder folder;
  std::string config = prepare_tiny_run(folder);
  std::map<std::string, std::string> outcome;

  Reference() {
    const ProgramResult result = run_program(program(2, fields(config, "whole")));
    INFO(result.err);
    REQUIRE(result.status == 0);
    CHECK(result.out == run("whole").string() + "\n");
    outcome = outcome_of(run("whole"));
  }
  fs::path run(const std::string& id) const { return folder / ("runs/tiny_" + id); }

  void check_end(const std::string& id, const std::vector<std::string>& arguments) const {
    const ProgramResult result = run_program(program(2, arguments));
    INFO(result.err);
    CHECK(result.status == 0);
    check_same(run(id), outcome);
  }
};

const Reference& common_reference() {
  static const Reference reference;
  return reference;
}

}  // namespace

TEST_CASE("sums are in order of rank, bit-identical on every worker") {
  for (const int count : {1, 2, 3, 4}) {
    const ProgramResult result = run_program(workers(count, MBLM_MPI_PEER, {"sum"}));
    INFO(result.err);
    CHECK(result.status == (count == 1 ? 1 : 0));
    if (count == 1) CHECK(contains(result.err, "expected a launcher, there is none"));
  }
}

TEST_CASE("an MPI library for programs with one thread is refused") {
  const ProgramResult result = run_program(workers(2, MBLM_MPI_PEER, {"single"}));
  INFO(result.err);
  CHECK(result.status != 0);
  CHECK(contains(result.err, "mpi_peer: mpi: expected an MPI library for programs with several threads (MPI_THREAD_FUNNELED), it supports one thread only\n"));
}

TEST_CASE("workers of mpirun train like one process that accumulates their micro-batches") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const auto overrides = [](const std::string& id, int accumulate) {
    return Overrides{"io.run_id=" + id,   "io.dataset_id=dealt", "train.batch_size=3", "train.target_elements=288",
                     "io.validate_amount=3", concat_text("train.gradient_accumulate_every=", accumulate)};
  };
  const auto last_values = [](const fs::path& run) { return SafetensorsFile(state_files(run).back()).tensor("values").to_vector<float>(); };
  for (const int count : {2, 4}) {
    Overrides words = overrides(concat_text("w", count), 2);
    words.insert(words.begin(), {"train", file});
    const ProgramResult result = run_program(workers(count, MBLM_MPI_PEER, words));
    INFO(result.err);
    REQUIRE(result.status == 0);
    const RunConfig config = read_run_config(file, BlockRegistry(), overrides(concat_text("a", count), 2 * count));
    const std::vector<float> one = last_values(Trainer(config, dealt_registry()).run().folder), all = last_values(folder / concat_text("runs/tiny_w", count));
    double difference = 0, square = 0;
    REQUIRE(one.size() == all.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
      difference += std::pow(static_cast<double>(one[i]) - static_cast<double>(all[i]), 2);
      square += std::pow(static_cast<double>(one[i]), 2);
    }
    CHECK(std::sqrt(difference / square) < 1e-6);
  }
}

TEST_CASE("hooks see the same gradients on all workers, and rank 0 ends the run") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const ProgramResult result = run_program(workers(2, MBLM_MPI_PEER, {"hooks", file, "io.dataset_id=dealt", "train.target_elements=96", "io.validate_amount=4"}));
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(contains(read_file(folder / "runs/tiny_1/train.log"), "a hook ends the run after micro-step 4 of 12"));
}

TEST_CASE("two runs are bit-identical") {
  const Reference& reference = common_reference();
  reference.check_end("again", fields(reference.config, "again"));
}

TEST_CASE("an error of one worker is reported once and ends all workers") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  folder.write("text/train/a.txt", words(2000) + std::string(2000, '\xff'));
  const ProgramResult result = run_program(program(2, {"train", config, "params.num_tokens=200"}));
  INFO(result.err);
  CHECK(result.status == 1);
  CHECK(result.out.empty());
  const std::vector<std::string> notes = notes_in(result.err);
  REQUIRE(notes.size() == 1);
  CHECK(contains(notes[0], "mblm: worker 1: "));
  CHECK(contains(notes[0], "expected bytes below num_tokens 200, found 255"));
  CHECK_FALSE(fs::exists(folder / "runs"));

  const ProgramResult common = run_program(program(3, {"train", config, "train.speed=1"}));
  CHECK(common.status == 1);
  REQUIRE(notes_in(common.err).size() == 1);
  CHECK(contains(notes_in(common.err)[0], "train.speed"));
  CHECK_FALSE(contains(notes_in(common.err)[0], "worker"));
}

TEST_CASE("the other workers end when one is killed") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  for (const std::size_t victim : {0u, 1u}) {
    const std::string id = std::to_string(victim);
    RunningProgram running(program(2, {"train", config, "io.run_id=" + id, "train.target_elements=1_000_000_000"}));
    REQUIRE(wait_until(running, [&] { return fs::exists(folder / ("runs/tiny_" + id + "/checkpoints/best.safetensors")); }));
    const std::vector<pid_t> ids = children_of(running.id());
    REQUIRE(ids.size() == 2);
    const auto start = std::chrono::steady_clock::now();
    kill(ids[victim], SIGKILL);
    const ProgramResult result = running.wait();
    CHECK(result.status != 0);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
    while (!has_ended(ids[1 - victim]) && std::chrono::steady_clock::now() - start < std::chrono::seconds(30))
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(has_ended(ids[1 - victim]));
  }
}

TEST_CASE("a run of two workers that is killed at random times ends with the same outcome") {
  const Reference& reference = common_reference();
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<std::string> arguments = fields(reference.config, "killed", {"train.save_state_every=0.000001"});
  for (int kill_number = 0; kill_number < 3; ++kill_number) {
    RunningProgram running(program(2, arguments));
    CHECK(wait_until(running, [&] { return saved_micro_steps(reference.run("killed")) >= 18 * kill_number + 3; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 8));
    const std::vector<pid_t> ids = children_of(running.id());
    if (ids.size() == 2) kill(ids[random() % 2], SIGKILL);
    CHECK(running.wait().status != 0);
    arguments = {"resume", reference.run("killed").string()};
  }
  reference.check_end("killed", arguments);
}

TEST_CASE("a signal to any worker stops all, and the run resumes with the same number") {
  const Reference& reference = common_reference();
  for (const auto& [victim, signal] : {std::pair{0u, SIGTERM}, std::pair{1u, SIGTERM}, std::pair{1u, SIGINT}, std::pair{1u, SIGUSR1}, std::pair{0u, SIGHUP}}) {
    const std::string id = concat_text("stopped_", victim, "_", signal);
    const fs::path run = reference.run(id);
    RunningProgram running(program(2, fields(reference.config, id, {"train.save_state_every=0.000001"})));
    REQUIRE(wait_until(running, [&] { return saved_micro_steps(run) >= 9; }));
    kill(children_of(running.id()).at(victim), signal);
    const ProgramResult result = running.wait();
    INFO(result.err);
    CHECK(result.status == 128 + signal);
    CHECK(result.out.empty());
    const std::vector<std::string> notes = notes_in(result.err);
    REQUIRE(notes.size() == 1);
    CHECK(contains(notes[0], concat_text("mblm: stopped by SIG", sigabbrev_np(signal), " after step ")));
    CHECK(contains(notes[0], concat_text("; resume with 2 workers: mblm resume ", run.string())));
    CHECK(saved_micro_steps(run) % 3 == 0);

    const ProgramResult other = run_program(program(4, {"resume", run.string()}));
    CHECK(other.status == 1);
    CHECK(contains(other.err, "num_workers (2, now 4)"));
    CHECK(notes_in(other.err).size() == 1);
    reference.check_end(id, {"resume", run.string()});
  }
}

TEST_CASE("a program without the module reports it once, and only under a launcher") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  fs::create_directory(folder / "bin");
  fs::copy_file(MBLM_TRAINING_PROGRAM, folder / "bin/mblm");
  fs::copy_file(MBLM_LIBRARY, folder / MBLM_SONAME);
  const std::string copy = folder / "bin/mblm";
  const ProgramResult result = run_program(workers(2, copy, {"train", config}));
  INFO(result.err);
  CHECK(result.status == 1);
  REQUIRE(notes_in(result.err).size() == 1);
  CHECK(contains(notes_in(result.err)[0], concat_text("mpi: module not found: ", (folder / "libmblm_mpi.so").string())));
  CHECK_FALSE(fs::exists(folder / "runs"));
  CHECK(run_program(workers(1, copy, {"train", config})).status == 0);
  CHECK(run_program(workers(2, copy, {"info", config})).status == 0);
}

}  // namespace mblm::testing

// mpirun requires these variables to run as root and with more workers than processors.
int main(int count, char** arguments) {
  if (access(MBLM_PROGRAM, X_OK) != 0) {
    std::cout << "skipped: no " << MBLM_PROGRAM << '\n';
    return 77;
  }
  for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"}) setenv(name, "1", 1);
  unsetenv("LD_LIBRARY_PATH");  // a copied program must use the library next to it
  return doctest::Context(count, arguments).run();
}
