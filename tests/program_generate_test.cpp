// `mblm generate` as a user runs it: stop texts, JSON, saved states, and the lines of a terminal.
#include <doctest/doctest.h>

#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

using nlohmann::json;

// A saved model with random parameters.
struct SavedModel {
  TemporaryFolder folder;
  std::string path = folder / "model.safetensors";
  explicit SavedModel(const char* model = tiny_model) { save_tiny_model(path, model); }

  ProgramResult run(std::vector<std::string> more, const std::string& input = {}) const {
    more.insert(more.begin(), {"generate", path});
    return run_program(more, input);
  }
  std::string output(const std::vector<std::string>& more, const std::string& input = {}) const {
    const ProgramResult result = run(more, input);
    INFO(result.err);
    CHECK(result.status == 0);
    CHECK(result.err.empty());
    return result.out;
  }
};

// The program on a terminal: it reads what is typed and writes to the same terminal.
class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& arguments) {
    process_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    REQUIRE(process_ >= 0);
    if (process_ != 0) return;
    std::vector<char*> words{const_cast<char*>(MBLM_PROGRAM)};
    for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
    words.push_back(nullptr);
    execv(MBLM_PROGRAM, words.data());
    _exit(127);
  }
  ~Terminal() {
    if (process_ > 0 && !status_) {
      kill(process_, SIGKILL);
      waitpid(process_, nullptr, 0);
    }
    close(terminal_);
  }

  void type(const std::string& text) { REQUIRE(write(terminal_, text.data(), text.size()) == static_cast<ssize_t>(text.size())); }
  // Reads until the text that has been written since the last call contains `end`; at the end of the program returns what there is.
  std::string read_until(const std::string& end) {
    std::string text;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (text.find(end) == std::string::npos && std::chrono::steady_clock::now() < limit) {
      pollfd ready{terminal_, POLLIN, 0};
      if (poll(&ready, 1, 1000) == 0) continue;
      char part[256];
      const ssize_t count = read(terminal_, part, sizeof part);
      if (count <= 0) break;
      text.append(part, static_cast<std::size_t>(count));
    }
    return text;
  }
  int wait() {
    int status = 0;
    REQUIRE(waitpid(process_, &status, 0) == process_);
    status_ = status;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t process_ = -1;
  int terminal_ = -1;
  std::optional<int> status_;
};

}  // namespace

TEST_CASE("generate: the output ends before a stop text") {
  const SavedModel model;
  const std::vector<std::string> options{"--tokens", "20", "--temperature", "1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), options.begin(), options.end());
    return more;
  };
  const json whole = json::parse(model.output(with({"--json"})));
  const std::string bytes = model.output(options);
  REQUIRE(bytes.size() == 20);
  // Three bytes without a zero, which a command line cannot contain.
  std::size_t at = 3;
  while (bytes.substr(at, 3).find('\0') != std::string::npos) ++at;
  const std::string stop = bytes.substr(at, 3);
  CHECK(model.output(with({"--stop", stop})) == bytes.substr(0, bytes.find(stop)));
  CHECK(model.output(with({"--stop", "no such text"})) == bytes);
  const json stopped = json::parse(model.output(with({"--stop", "x~", "--stop", stop, "--json", "--logprobs"})));
  CHECK(stopped["ids"].size() == bytes.find(stop));
  CHECK(stopped["logprobs"].size() == stopped["ids"].size());
  CHECK(stopped["text"] == json::parse(model.output({"--tokens", std::to_string(bytes.find(stop)), "--temperature", "1", "--json"}))["text"]);
  CHECK(model.run({"--stop", ""}).status == 1);
}

TEST_CASE("generate: JSON with log-probabilities and timings") {
  const SavedModel model;
  const json line = json::parse(model.output({"--prompt", "sea", "--tokens", "5", "--json", "--logprobs", "--temperature", "0"}));
  CHECK(line["prompt"] == "sea");
  REQUIRE(line["logprobs"].size() == 5);
  for (const double value : line["logprobs"]) CHECK((value < 0 && value > -6));  // near log(1/256): the model is random
  CHECK(line["timings"]["prompt_bytes"] == 3);
  for (const char* time : {"prompt_ms", "generated_ms", "ms_per_byte"}) CHECK(line["timings"][time] > 0);
  CHECK(!json::parse(model.output({"--tokens", "2", "--json"})).contains("logprobs"));
  CHECK(model.run({"--logprobs"}).status == 2);  // only in JSON
}

TEST_CASE("generate: a saved state continues as the whole prompt does") {
  const SavedModel model, other(fixed_model);
  const std::string state = model.folder / "state";
  const std::vector<std::string> options{"--tokens", "30", "--temperature", "1", "--repetition-penalty", "1.3", "--seed", "5"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), options.begin(), options.end());
    return more;
  };
  const std::string whole = model.output(with({"--prompt", "the deep blue sea"}));
  CHECK(whole.size() == 30);
  CHECK(model.output(with({"--prompt", "the deep blue sea", "--save-state", state})) == whole);
  CHECK(model.output(with({"--load-state", state})) == whole);
  CHECK(model.output({"--prompt", "the deep", "--tokens", "0", "--save-state", state}).empty());
  CHECK(model.output(with({"--load-state", state, "--prompt", " blue sea"})) == whole);
  CHECK(model.output(with({"--load-state", state, "--prompt", " blue", "--save-state", state, "--count", "2"})).size() == 60);
  CHECK(model.output(with({"--load-state", state, "--prompt", " sea"})) == whole);
  const ProgramResult refused = other.run({"--load-state", state});
  CHECK(refused.status == 1);
  CHECK(refused.err == "mblm: " + state + ": the state belongs to another model (config or parameters differ)\n");
  CHECK(model.run({"--load-state", model.folder / "nothing"}).status == 1);
  CHECK(model.run({"--save-state", model.folder / "no/folder", "--tokens", "1"}).status == 1);
}

TEST_CASE("generate: on a terminal each line is a prompt of its own") {
  const SavedModel model;
  Terminal terminal({"generate", model.path, "--tokens", "6", "--temperature", "0", "--format", "ids"});
  const auto ids = [&](const std::string& prompt) { return model.output({"--prompt", prompt, "--tokens", "6", "--temperature", "0", "--format", "ids"}); };
  const auto answer = [&] {  // without the echo of the prompt and the carriage returns of a terminal
    std::string text = terminal.read_until("\n> ");
    std::erase(text, '\r');
    const std::size_t line = text.find('\n') + 1;
    return text.substr(line, text.find('\n', line) + 1 - line);
  };
  terminal.read_until("> ");
  for (const std::string prompt : {"sea", "land", "sea"}) {
    terminal.type(prompt + "\n");
    CHECK(answer() == ids(prompt));
  }
  terminal.type("\n");  // continues nothing
  CHECK(terminal.read_until("> ").find('>') != std::string::npos);
  terminal.type("\x04");  // Ctrl-D
  terminal.read_until("\n");
  CHECK(terminal.wait() == 0);
}

TEST_CASE("a program that reads both streams as one gets the bytes only") {
  const SavedModel model;
  FILE* both = popen((MBLM_PROGRAM " generate " + model.path + " --prompt a --tokens 4 --format ids 2>&1").c_str(), "r");
  REQUIRE(both != nullptr);
  std::string text;
  for (int c; (c = std::fgetc(both)) != EOF;) text += static_cast<char>(c);
  CHECK(pclose(both) == 0);
  CHECK(text.find("CPU") == std::string::npos);
}

}  // namespace mblm::testing
