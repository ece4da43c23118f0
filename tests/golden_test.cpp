// Runs every golden case in tests/golden, or in the folders of MBLM_GOLDEN (separated by colons). Prints one line per model case and
// precision, with its worst relative errors, one per file of data_cases/, and finally `N passed, N failed, N skipped`. Arguments:
// names of the cases to run.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <tuple>

#include "engine/error.h"
#include "tests/golden_case.h"
#include "tests/golden_data.h"

namespace {

namespace fs = std::filesystem;
using mblm::testing::GoldenResult;

struct Case {
  fs::path path;  // a folder of cases/, or a file of data_cases/
  bool is_data = false;
  mblm::DType precision = mblm::DType::Float32;
  std::string name() const { return path.stem().string(); }
  std::string title() const { return precision == mblm::DType::Float32 ? name() : mblm::concat_text(name(), " ", precision); }
};

std::vector<fs::path> golden_folders() {
  const char* given = std::getenv("MBLM_GOLDEN");
  if (given == nullptr) return {MBLM_GOLDEN_FOLDER};
  std::vector<fs::path> folders;
  std::istringstream list(given);
  for (std::string folder; std::getline(list, folder, ':');)
    if (!folder.empty()) folders.emplace_back(folder);
  return folders;
}

std::vector<Case> find_cases(const std::vector<fs::path>& folders) {
  std::vector<Case> cases;
  for (const fs::path& folder : folders) {
    for (const auto& entry : fs::directory_iterator(folder / "cases"))
      if (entry.is_directory())
        for (const mblm::DType precision : {mblm::DType::Float32, mblm::DType::BFloat16}) cases.push_back({entry.path(), false, precision});
    if (!fs::is_directory(folder / "data_cases")) continue;
    for (const auto& entry : fs::directory_iterator(folder / "data_cases"))
      if (entry.path().extension() == ".safetensors") cases.push_back({entry.path(), true});
  }
  std::sort(cases.begin(), cases.end(), [](const Case& a, const Case& b) { return std::tie(a.path, a.precision) < std::tie(b.path, b.precision); });
  return cases;
}

GoldenResult run(const Case& c) {
  try {
    if (c.is_data) return mblm::testing::run_data_case(c.path);
    return c.name().starts_with("train_") ? mblm::testing::run_training_case(c.path, c.precision) : mblm::testing::run_forward_case(c.path, c.precision);
  } catch (const std::exception& error) {
    GoldenResult result;
    result.outcome = GoldenResult::Failed;
    result.failures.push_back(error.what());
    return result;
  }
}

}  // namespace

int main(int argc, char** argv) {
  int counts[3] = {};
  const std::vector<std::string> wanted(argv + 1, argv + argc);
  try {
    for (const Case& c : find_cases(golden_folders())) {
      if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), c.name()) == wanted.end()) continue;
      const GoldenResult result = run(c);
      const char* outcomes[] = {"passed ", "FAILED ", "skipped"};
      ++counts[result.outcome];
      std::cout << outcomes[result.outcome] << ' ' << c.title() << ": " << result.line << '\n';
      for (const std::string& failure : result.failures) std::cout << "        " << failure << '\n';
    }
  } catch (const std::exception& error) {
    std::cerr << "golden_test: " << error.what() << '\n';
    return 1;
  }
  std::cout << counts[0] << " passed, " << counts[1] << " failed, " << counts[2] << " skipped\n";
  return counts[1] == 0 && counts[0] > 0 ? 0 : 1;
}
