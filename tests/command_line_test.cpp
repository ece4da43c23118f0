// The command line: help, messages for typing errors, completion, the man page and `mblm config`.
#include <doctest/doctest.h>

#include <cstdio>
#include <filesystem>
#include <sstream>

#include "engine/error.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

using Words = std::vector<std::string>;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Words lines_of(const std::string& text) {
  Words lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The names in the table of commands of `mblm help`.
Words commands() {
  Words names;
  bool is_table = false;
  for (const std::string& line : lines_of(run_program({"help"}).out)) {
    if (line == "Commands:") is_table = true;
    else if (line.empty()) is_table = false;
    else if (is_table && line[2] != ' ') names.push_back(line.substr(2, line.find(' ', 2) - 2));
  }
  REQUIRE(names.size() >= 9);
  return names;
}

// The long options in the help of a command.
Words options_of(const std::string& command) {
  Words names;
  for (const std::string& line : lines_of(run_program({"help", command}).out)) {
    const std::size_t at = line.find("--");
    if (line.starts_with("  -") && at < 8) names.push_back(line.substr(at, line.find_first_of(" ", at) - at));
  }
  REQUIRE_FALSE(names.empty());
  return names;
}

// Runs a command of the shell and returns what it prints.
std::string shell(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string out;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) out += static_cast<char>(c);
  CHECK(pclose(pipe) == 0);
  return out;
}

// The completions of the last of `words`.
std::string completed(const TemporaryFolder& folder, const Words& words) {
  std::string line;
  for (const std::string& word : words) line += " '" + word + "'";
  folder.write("complete", concat_text("source '", (folder / "mblm.bash").string(), "'\nCOMP_WORDS=(mblm", line, ")\nCOMP_CWORD=", words.size(),
                                       "\n_mblm\necho \"${COMPREPLY[*]}\"\n"));
  const std::string out = shell("bash '" + (folder / "complete").string() + "'");
  return out.substr(0, out.size() - 1);
}

std::string error_of(const Words& arguments) {
  const ProgramResult result = run_program(arguments);
  CHECK(result.status == 2);
  CHECK(result.out.empty());
  return result.err;
}

}  // namespace

TEST_CASE("help names every command, and help COMMAND is COMMAND --help") {
  CHECK(run_program({"help"}).out == run_program({"--help"}).out);
  for (const std::string& command : commands()) {
    const ProgramResult help = run_program({"help", command});
    CHECK(help.status == 0);
    CHECK(help.err.empty());
    CHECK(help.out.starts_with("Usage: mblm " + command));
    CHECK(help.out == run_program({command, "--help"}).out);
    for (const std::string& line : lines_of(help.out)) CHECK(line.size() <= 80);  // no terminal
  }
  for (const std::string& line : lines_of(run_program({"help"}).out)) CHECK(line.size() <= 80);
}

TEST_CASE("help fits the width of the terminal") {
  for (const int width : {50, 60, 100, 140}) {
    std::size_t longest = 0;
    for (const char* command : {"", "train", "generate"}) {
      const std::string inner = concat_text("stty cols ", width, "; ", MBLM_PROGRAM, " help ", command);
      for (std::string line : lines_of(shell("script -qec '" + inner + "' /dev/null"))) {
        if (line.ends_with('\r')) line.pop_back();
        longest = std::max(longest, line.size());
      }
    }
    CAPTURE(width);
    CHECK(longest <= static_cast<std::size_t>(width));
    CHECK(longest > static_cast<std::size_t>(width) - 15);
  }
}

TEST_CASE("typing errors are named, with the near name") {
  CHECK(error_of({"generate", "m", "--prmpt", "x"}) == "mblm: unknown option --prmpt, did you mean --prompt? (see mblm generate --help)\n");
  CHECK(error_of({"generate", "--prmpt=x"}) == "mblm: unknown option --prmpt, did you mean --prompt? (see mblm generate --help)\n");
  CHECK(error_of({"train", "c.yaml", "--precsion", "x"}) == "mblm: unknown option --precsion, did you mean --precision? (see mblm train --help)\n");
  CHECK(error_of({"generate", "m", "--prompt", "--wheels", "--wheels"}) == "mblm: unknown option --wheels (see mblm generate --help)\n");
  CHECK(error_of({"train", "c.yaml", "--batch_size", "8"}) ==
        "mblm: unknown option --batch_size, did you mean train.batch_size=VALUE? (see mblm train --help)\n");
  CHECK(error_of({"--vesion"}) == "mblm: unknown option --vesion, did you mean --version? (see mblm --help)\n");
  CHECK(error_of({"foo"}).starts_with("mblm: unknown command foo, expected "));
  CHECK(error_of({"genrate"}) == "mblm: unknown command genrate, did you mean generate? (see mblm --help)\n");
  CHECK(error_of({"help", "genrate"}) == "mblm: unknown command genrate, did you mean generate? (see mblm --help)\n");
  CHECK(error_of({"x.yaml"}) == "mblm: unknown command x.yaml, did you mean mblm train x.yaml? (see mblm --help)\n");
  CHECK(error_of({}).starts_with("mblm: expected a command: "));
  CHECK(error_of({"generate", "m", "Hello"}) ==
        "mblm: INPUT: expected - for standard input, got Hello; a text to continue follows --prompt (see mblm generate --help)\n");
  CHECK(error_of({"eval", "m", "--precision", "float16"}) == "mblm: --precision: expected float32 or bfloat16, got float16 (see mblm eval --help)\n");
  CHECK(error_of({"generate", "m", "--tokens", ""}) == "mblm: --tokens: expected an integer of at least 0, got nothing (see mblm generate --help)\n");
}

TEST_CASE("the completion knows every command and option, and completes their values and config fields") {
  const TemporaryFolder folder;
  folder.write("mblm.bash", run_program({"help", "--bash-completion"}).out);
  std::string all;
  for (const std::string& command : commands()) {
    all += command + " ";
    std::string options = "-h";
    for (const std::string& option : options_of(command)) {
      const std::string found = " " + completed(folder, {command, option}) + " ";
      CHECK_MESSAGE(contains(found, " " + option + " "), command << " " << option);
    }
  }
  CHECK(completed(folder, {""}) == all + "--help --version");
  CHECK(completed(folder, {"gen"}) == "generate");
  CHECK(completed(folder, {"generate", "--pro"}) == "--prompt --prompt-file");
  CHECK(completed(folder, {"generate", "m", "--format", ""}) == "text raw ids");
  CHECK(completed(folder, {"generate", "m", "--precision", "b"}) == "bfloat16");
  CHECK(completed(folder, {"help", "con"}) == "config convert");
  CHECK(completed(folder, {"train", ""}).empty());  // bash completes a file name
  CHECK(completed(folder, {"train", "c.yaml", "train.lea"}) == "train.learning_rate=");
  CHECK(completed(folder, {"generate", "m", "--prompt-file", ""}).empty());
}

TEST_CASE("the man page describes every command and option") {
  const std::string page = run_program({"help", "--man"}).out;
  CHECK(page.starts_with(".TH MBLM 1 "));
  for (const std::string& command : commands()) {
    const std::size_t begin = page.find(".SS mblm " + command + "\n");
    REQUIRE(begin != std::string::npos);
    const std::string section = page.substr(begin, page.find("\n.S", begin + 1) - begin);
    for (const std::string& option : options_of(command)) {
      std::string escaped;
      for (const char c : option) escaped += c == '-' ? std::string("\\-") : std::string(1, c);
      CHECK_MESSAGE(contains(section, escaped), command << " " << option);
    }
  }
}

TEST_CASE("mblm config prints a config that trains") {
  const TemporaryFolder folder;
  folder.write("data/a.txt", words(12000));
  const ProgramResult result = run_program({"config", "--data", folder / "data", "io.output_dir=" + (folder / "runs").string(), "io.run_id=1"});
  INFO(result.err);
  REQUIRE(result.status == 0);
  CHECK(contains(result.out, "# The training data have 108"));
  CHECK(contains(result.out, "\n  num_tokens: 257\n"));
  CHECK(contains(result.out, "\n  pad_token_id: 256\n"));
  CHECK(contains(result.out, "\n  input_seq_len: 512\n"));  // the smallest split has 600 bytes
  CHECK(contains(result.out, "\n  epochs: 20\n"));
  folder.write("c.yaml", result.out);
  const ProgramResult trained = run_program({"train", folder / "c.yaml", "train.max_steps=1", "io.validate_amount=1"});
  INFO(trained.err);
  CHECK(trained.status == 0);
  CHECK(trained.out == (folder / "runs/small_1").string() + "\n");
  CHECK(contains(trained.err, "split by file order"));

  for (const char* size : {"small", "medium"}) {
    folder.write("c.yaml", run_program({"config", "--size", size}).out);
    CHECK(run_program({"info", folder / "c.yaml"}).status == 0);
  }
  folder.write("short/a.txt", "too little");
  CHECK(run_program({"config", "--data", folder / "short"}).err == "mblm: " + (folder / "short").string() + ": expected at least 64 bytes in each split, found 0\n");
  CHECK(contains(run_program({"config", "--data", folder / "none"}).err, "there is none"));
  CHECK(contains(run_program({"config", "train.lerning_rate=1"}).err, "did you mean learning_rate?"));
  CHECK(run_program({"config", "--fields"}).out.starts_with("# Fields of a config\n"));
}

TEST_CASE("a dry run checks everything and writes nothing") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const Words before = listing(folder.path());
  const ProgramResult result = run_program({"train", config, "--dry-run"});
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(result.out.empty());
  CHECK(contains(result.err, "steps: 16 optimizer steps"));
  CHECK(contains(result.err, "folder: " + (folder / "runs/tiny_1").string()));
  CHECK(listing(folder.path()) == before);
  CHECK(run_program({"train", config, "--dry-run", "io.output_dir=/proc/x"}).status == 1);
  CHECK(run_program({"train", config, "--dry-run", "io.dataset_dir=none"}).status == 1);
  CHECK(run_program({"train", config}).status == 0);
  CHECK(contains(run_program({"train", config, "--dry-run"}).err, "already exists"));
}

TEST_CASE("all wrong fields are printed, one per line, and nothing is written") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const Words before = listing(folder.path());
  const ProgramResult result = run_program({"train", config, "train.batch_size=x", "train.seed=-1", "io.validate_amount=no"});
  CHECK(result.status == 1);
  CHECK(result.err ==
        "mblm: command line: train.batch_size: expected an integer of at least 1, got \"x\"\n"
        "mblm: command line: train.seed: expected an integer of at least 0, got -1\n"
        "mblm: command line: io.validate_amount: expected an integer of at least 0, got no\n");
  CHECK(listing(folder.path()) == before);
}

TEST_CASE("info prints JSON") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const ProgramResult model = run_program({"info", config, "--json"});
  CHECK(model.status == 0);
  CHECK(model.out.starts_with("{\"stages\":[{\"block\":\"mamba2\",\"tokens\":8,\"width\":16,\"layers\":1,\"parameters\":"));
  for (const char* key : {"\"parameters\":", "\"context\":32", "\"batch\":4", "\"length\":32", "\"training_memory_bytes\":", "\"masked\":false"})
    CHECK(contains(model.out, key));
  CHECK(contains(run_program({"info", "devices", "--json"}).out, "{\"devices\":[{\"device\":\"cpu\","));
  CHECK(contains(run_program({"info", "kernels", "--json"}).out, "\"rms_norm_forward\":{\"cpu\":["));
}

}  // namespace mblm::testing
