#include "tests/run_outcome.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <sstream>

#include "tests/temporary_folder.h"

namespace mblm::testing {

namespace fs = std::filesystem;

namespace {

// The wanted columns of a table.
std::string columns(const fs::path& table, const std::function<bool(std::size_t)>& wanted) {
  std::istringstream lines(read_file(table));
  std::string text;
  for (std::string line; std::getline(lines, line); text += '\n') {
    std::istringstream words(line);
    std::string word;
    for (std::size_t column = 0; std::getline(words, word, ','); ++column)
      if (wanted(column)) text += word + ",";
  }
  return text;
}

// The samples in a log without duplicates: a resumed run repeats the samples after its state.
std::string samples_in(const fs::path& log) {
  std::set<std::string> samples;
  std::istringstream lines(read_file(log));
  for (std::string line; std::getline(lines, line);)
    if (line.find(": sample ") != std::string::npos) samples.insert(line.substr(line.find("micro-step")));
  std::string text;
  for (const std::string& sample : samples) text += sample + "\n";
  return text;
}

}  // namespace

std::vector<fs::path> state_files(const fs::path& run) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "state", error))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::int64_t saved_micro_steps(const fs::path& run) {
  const std::vector<fs::path> files = state_files(run);
  return files.empty() ? -1 : std::stoll(files.back().stem().string().substr(std::string("state_").size()));
}

std::map<std::string, std::string> outcome_of(const fs::path& run) {
  std::map<std::string, std::string> outcome;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints"))
    outcome[entry.path().filename()] = entry.is_symlink() ? fs::read_symlink(entry.path()).string() : read_file(entry.path());
  outcome["loss.csv"] = columns(run / "loss.csv", [](std::size_t column) { return column != 1 && column != 12; });
  outcome["timemem.csv"] = columns(run / "timemem.csv", [](std::size_t column) { return column < 3; });
  outcome["samples"] = samples_in(run / "train.log");
  outcome["state"] = state_files(run).empty() ? "" : read_file(state_files(run).back());
  return outcome;
}

void check_same(const fs::path& run, const std::map<std::string, std::string>& wanted) {
  const std::map<std::string, std::string> found = outcome_of(run);
  for (const auto& [name, content] : wanted) {
    CAPTURE(name);
    const auto at = found.find(name);
    CHECK((at != found.end() && at->second == content));
  }
  CHECK(found.size() == wanted.size());
}

}  // namespace mblm::testing
