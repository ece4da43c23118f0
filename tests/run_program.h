// Runs the program mblm as a user does.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/temporary_folder.h"

namespace mblm::testing {

// All files and folders in a folder, recursively, sorted.
std::vector<std::string> listing(const std::filesystem::path& folder);

struct ProgramResult {
  int status = -1;  // exit status, or 128 + signal number
  std::string out, err;
};

// A program that runs in the background, with its streams in files.
class RunningProgram {
 public:
  // `output` is a file descriptor for standard output, or -1 for a file that wait() reads.
  explicit RunningProgram(const std::vector<std::string>& arguments, const std::string& input = {}, int output = -1);
  ~RunningProgram();
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  pid_t id() const { return process_; }
  void send(int signal) const;
  bool ended();
  ProgramResult wait();

 private:
  TemporaryFolder folder_;
  pid_t process_ = -1;
  int wait_status_ = 0;
};

inline ProgramResult run_program(const std::vector<std::string>& arguments, const std::string& input = {}) {
  return RunningProgram(arguments, input).wait();
}

}  // namespace mblm::testing
