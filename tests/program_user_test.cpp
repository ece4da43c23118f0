// What users meet around a run: closed streams, refused threads, other folders, numbers, data that is read in part, padding in the data.
#include <doctest/doctest.h>

#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "engine/error.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Runs a line of the shell, in which $MBLM is the program. Returns the exit status.
int shell(const TemporaryFolder& folder, const std::string& line) {
  setenv("MBLM", MBLM_PROGRAM, 1);
  const int status = std::system(concat_text("cd '", folder.path().string(), "' && { ", line, "; }").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Whether all lines of a table are its header or begin with a number.
bool has_only_rows(const std::filesystem::path& table, const std::string& header_start) {
  std::istringstream lines(read_file(table));
  std::string line;
  if (!std::getline(lines, line) || !line.starts_with(header_start)) return false;
  while (std::getline(lines, line))
    if (line.empty() || (line[0] != '-' && (line[0] < '0' || line[0] > '9'))) return false;
  return true;
}

struct SavedModel {
  TemporaryFolder folder;
  std::string path = folder / "model.safetensors";
  SavedModel() { save_tiny_model(path, tiny_model); }
  ProgramResult generate(const std::vector<std::string>& options) const {
    std::vector<std::string> all{"generate", path, "--format", "ids"};
    all.insert(all.end(), options.begin(), options.end());
    return run_program(all);
  }
};

}  // namespace

TEST_CASE("closed standard streams receive nothing, and no file of the run takes their place") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  int run = 0;
  for (const char* closed : {">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"}) {
    CAPTURE(closed);
    const std::string id = std::to_string(++run);
    CHECK(shell(folder, concat_text("\"$MBLM\" train config.yaml io.run_id=", id, " >out 2>err ", closed)) == 0);
    const std::filesystem::path path = folder / ("runs/tiny_" + id);
    CHECK(has_only_rows(path / "loss.csv", "gpu_rank,"));
    CHECK(has_only_rows(path / "timemem.csv", "cum_batch,"));
    const std::string lock = read_file(path / "state/lock");
    CHECK(lock.find_first_not_of("0123456789") == lock.size() - 1);
  }
  CHECK(shell(folder, "\"$MBLM\" generate runs/tiny_1 --tokens 3 >&-") == 0);
  CHECK(shell(folder, "\"$MBLM\" info none.yaml >out 2>&-") == 1);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers need address space
TEST_CASE("the program runs with the threads that start, and says so") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  const std::string limit = "ulimit -s 8192; ulimit -v 4000000; ";
  CHECK(shell(folder, limit + "\"$MBLM\" train config.yaml --threads 1000 >out 2>err") == 0);
  CHECK(contains(read_file(folder / "err"), "mblm: warning: the system refused some of 1000 threads; computes with "));
  CHECK(shell(folder, limit + "OMP_NUM_THREADS=1000 \"$MBLM\" eval runs/tiny_1 >out 2>err") == 0);
  CHECK(contains(read_file(folder / "err"), "--threads, OMP_NUM_THREADS"));
  for (const char* command : {"generate runs/tiny_1 --tokens 2", "embed runs/tiny_1 config.yaml"})
    CHECK(shell(folder, limit + "\"$MBLM\" " + command + " --threads 1000 >out 2>err") == 0);
  CHECK(shell(folder, limit + "OMP_NUM_THREADS=1000 \"$MBLM\" convert runs/tiny_1 x.pth >out 2>err") == 0);
}
#endif

TEST_CASE("a run with relative paths is used from another folder") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  std::filesystem::create_directory(folder / "elsewhere");
  CHECK(shell(folder, "\"$MBLM\" train config.yaml io.dataset_dir=text io.output_dir=runs >out 2>err") == 0);
  CHECK(contains(read_file(folder / "runs/tiny_1/config.yaml"), "dataset_dir: " + (folder / "text").string() + "\n"));
  for (const char* command : {"eval", "resume"}) CHECK(shell(folder, concat_text("cd elsewhere && \"$MBLM\" ", command, " ../runs/tiny_1 >out 2>err")) == 0);
  // A run starts from a checkpoint with a relative path, and its config can be used elsewhere.
  CHECK(shell(folder, "\"$MBLM\" train config.yaml io.run_id=2 resume.checkpoint_file=runs/tiny_1/checkpoints/best.safetensors >out 2>err") == 0);
  CHECK(contains(read_file(folder / "err"), "start: parameters of runs/tiny_1/checkpoints/best.safetensors at epoch 0, batch 0"));
  CHECK(shell(folder, "cd elsewhere && \"$MBLM\" train ../runs/tiny_2/config.yaml io.run_id=3 >out 2>err") == 0);
  CHECK(contains(read_file(folder / "elsewhere/err"), "start: parameters of " + (folder / "runs/tiny_1/checkpoints/").string()));
  CHECK(shell(folder, "\"$MBLM\" train runs/tiny_1/config.yaml io.run_id=4 >out 2>err") == 0);
  CHECK(contains(read_file(folder / "err"), "start: new parameters, seed 0\n"));
  CHECK(read_file(folder / "runs/tiny_4/checkpoints/last.safetensors") == read_file(folder / "runs/tiny_1/checkpoints/last.safetensors"));
  std::filesystem::rename(folder / "text", folder / "moved");
  for (const auto& [command, way_out] : {std::pair("eval", "give the data with --data"), std::pair("resume", "io.dataset_dir=PATH")}) {
    const ProgramResult result = run_program({command, folder / "runs/tiny_1"});
    CHECK(result.status == 1);
    CHECK(result.err.starts_with("mblm: io.dataset_dir: expected a file or a folder, " + (folder / "text").string() + " does not exist; "));
    CHECK(contains(result.err, way_out));
  }
}

TEST_CASE("numbers of the command line are decimal and checked") {
  const SavedModel model;
  const auto refused = [&](const std::vector<std::string>& options, const std::string& message) {
    const ProgramResult result = model.generate(options);
    CHECK(result.status == 2);
    CHECK(result.err.starts_with("mblm: " + options[0] + ": " + message + ", got " + (options[1].empty() ? "nothing" : options[1]) + " (see "));
  };
  for (const char* seed : {"-1", "18446744073709551616", "99999999999999999999999", "0x10", "1.0", "", " 1", "1 "})
    refused({"--seed", seed}, "expected an integer from 0 to 18446744073709551615");
  for (const char* tokens : {"3.9", "1e1", "-1", "many", "9223372036854775808", "0x8", "1_000"}) refused({"--tokens", tokens}, "expected an integer of at least 0");
  for (const char* share : {"0", "-0.5", "1.5", "nan", "0x1p-1"}) refused({"--top-p", share}, "expected a number above 0, up to 1");
  for (const char* temperature : {"-1", "inf", "nan", "hot"}) refused({"--temperature", temperature}, "expected a number from 0 to 1e+06");
  refused({"--threads", "0"}, "expected an integer from 1 to 4096");
  refused({"--count", "0"}, "expected an integer from 1 to 1073741824");
  refused({"--ban", "-1"}, "expected an integer of at least 0");
  refused({"--stop-id", "a"}, "expected an integer of at least 0");
  const auto ids = [&](const std::vector<std::string>& options) {
    const ProgramResult result = model.generate(options);
    INFO(result.err);
    CHECK(result.status == 0);
    return result.out;
  };
  CHECK(std::ranges::count(ids({"--tokens", "010"}), ' ') == 9);  // ten
  CHECK(ids({"--tokens", "9", "--seed", "010"}) == ids({"--tokens", "9", "--seed", "10"}));
  CHECK(ids({"--tokens", "9", "--seed", "18446744073709551615"}) != ids({"--tokens", "9", "--seed", "10"}));
  CHECK(ids({"--tokens", "9", "--top-p", ".5", "--temperature", "+1e0"}) == ids({"--tokens", "9", "--top-p", "0.5", "--temperature", "1"}));
  CHECK(ids({"--tokens", "9", "--ban", "1", "--ban", "02"}) == ids({"--tokens", "9", "--ban", "1", "--ban", "2"}));
}

TEST_CASE("eval says which bytes of a file it reads") {
  const SavedModel model;
  const std::string text = model.folder.write("text", words(20000)).string(), size = std::to_string(std::filesystem::file_size(text));
  const auto eval = [&](const std::string& data, const char* split) { return run_program({"eval", model.path, "--data", data, "--split", split}); };
  const ProgramResult test = run_program({"eval", model.path, "--data", text});
  CHECK(test.status == 0);
  CHECK(contains(test.err, "mblm: " + text + ": bytes "));
  CHECK(contains(test.err, " of " + size + ", the test split; --split all reads all bytes\n"));
  const ProgramResult all = eval(text, "all");
  CHECK(all.status == 0);
  CHECK(all.err.empty());
  const std::string read = all.out.substr(all.out.find("bytes            ") + 17);
  CHECK(std::stoll(read) == std::stoll(size) / 32 * 32);
  for (const char* split : {"train", "validation", "test"}) model.folder.write(std::string("splits/") + split + "/a", words(640));
  CHECK(eval(model.folder / "splits", "test").err.empty());
  CHECK(eval(model.folder / "splits", "all").status == 0);
}

TEST_CASE("padding ids and hidden files in the data are reported") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const std::string text = (folder / "text").string();
  folder.write("text/train/.DS_Store", std::string(3000, 'x'));
  const ProgramResult hidden = run_program({"train", config});
  CHECK(hidden.status == 0);
  CHECK(contains(hidden.err, "mblm: warning: " + text + "/train: 1 skipped (hidden file), e.g. " + text + "/train/.DS_Store\n"));
  std::filesystem::remove(folder / "text/train/.DS_Store");
  const ProgramResult clean = run_program({"train", config, "io.run_id=2"});
  CHECK_FALSE(contains(clean.err, "warning"));
  CHECK(read_file(folder / "runs/tiny_1/checkpoints/last.safetensors") == read_file(folder / "runs/tiny_2/checkpoints/last.safetensors"));
  const ProgramResult spaces = run_program({"train", config, "io.run_id=3", "params.pad_token_id=32"});
  CHECK(spaces.status == 0);
  CHECK(contains(spaces.err, " % of the bytes equal the padding id 32, so that the loss ignores them; use an id that no byte has, such as num_tokens: 257 with pad_token_id: 256\n"));
  CHECK(contains(read_file(folder / "runs/tiny_3/train.log"), "the padding id 32"));
  CHECK(contains(run_program({"eval", folder / "runs/tiny_3"}).err, "the padding id 32"));
  CHECK_FALSE(contains(run_program({"train", config, "io.run_id=4", "params.num_tokens=257", "params.pad_token_id=256"}).err, "warning"));
}

TEST_CASE("a run without validation can be used") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder), run = folder / "runs/tiny_1";
  CHECK(run_program({"train", config, "io.validate_amount=0"}).status == 0);
  const ProgramResult from_run = run_program({"generate", run, "--tokens", "9"});
  CHECK(from_run.status == 0);
  std::filesystem::remove(folder / "runs/tiny_1/checkpoints/best.safetensors");
  CHECK(run_program({"generate", run, "--tokens", "9"}).out == from_run.out);
  std::filesystem::remove(folder / "runs/tiny_1/checkpoints/last.safetensors");
  CHECK(run_program({"generate", run, "--tokens", "9"}).err == "mblm: " + run + ": expected a run folder, checkpoints/best.safetensors is missing\n");
}

}  // namespace mblm::testing
