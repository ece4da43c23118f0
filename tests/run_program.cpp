#include "tests/run_program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "engine/error.h"

namespace mblm::testing {

std::vector<std::string> listing(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) names.push_back(entry.path().string());
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

// Removes lines that depend on the machine: warnings of a sanitizer about failed allocations, and the note that the CUDA backend finds
// no GPU.
std::string without_machine_lines(const std::string& text) {
  const auto depends = [](const std::string& line) {
    return line.find("WARNING: AddressSanitizer failed to allocate") != std::string::npos || (line.starts_with("mblm: cuda: ") && line.ends_with("; using the CPU"));
  };
  std::string kept;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (!depends(line)) kept += line + (lines.eof() ? "" : "\n");
  return kept;
}

}  // namespace

RunningProgram::RunningProgram(const std::vector<std::string>& arguments, const std::string& input, int output) {
  folder_.write("in", input);
  std::vector<std::string> words{MBLM_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, (folder_ / "in").c_str(), O_RDONLY, 0);
  if (output >= 0) {
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  } else {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (folder_ / "out").c_str(), O_WRONLY | O_CREAT, 0600);
  }
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (folder_ / "err").c_str(), O_WRONLY | O_CREAT, 0600);
  const int failure = posix_spawn(&process_, MBLM_PROGRAM, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  require(failure == 0, "posix_spawn: cannot start ", MBLM_PROGRAM);
}

RunningProgram::~RunningProgram() {
  if (process_ > 0 && !ended()) {
    send(SIGKILL);
    waitpid(process_, &wait_status_, 0);
  }
}

void RunningProgram::send(int signal) const { kill(process_, signal); }

bool RunningProgram::ended() {
  if (process_ > 0 && waitpid(process_, &wait_status_, WNOHANG) == process_) process_ = -1;
  return process_ < 0;
}

ProgramResult RunningProgram::wait() {
  if (process_ > 0) waitpid(process_, &wait_status_, 0);
  process_ = -1;
  const int status = WIFEXITED(wait_status_) ? WEXITSTATUS(wait_status_) : 128 + WTERMSIG(wait_status_);
  return {status, read_file(folder_ / "out"), without_machine_lines(read_file(folder_ / "err"))};
}

}  // namespace mblm::testing
