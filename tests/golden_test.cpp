// Runs every golden case in tests/golden, or in the folders of MBLM_GOLDEN (separated by colons). Prints one line per model case and
// precision, with its worst relative errors, one per file of data_cases/, and finally `N passed, N failed, N skipped`. Arguments:
// `--device cuda` to run the models on a GPU, `--precision float32` or `bfloat16` to run them in one, and names of the cases to run.
// MBLM_STRIDE (stride.h) runs a part of them.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <tuple>

#include "engine/device_name.h"
#include "engine/error.h"
#include "tests/golden_case.h"
#include "tests/golden_data.h"
#include "tests/stride.h"

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

GoldenResult run(const Case& c, mblm::Device device) {
  try {
    if (c.is_data) return mblm::testing::run_data_case(c.path);
    return c.name().starts_with("train_") ? mblm::testing::run_training_case(c.path, c.precision, device)
                                           : mblm::testing::run_forward_case(c.path, c.precision, device);
  } catch (const std::exception& error) {
    GoldenResult result;
    result.outcome = GoldenResult::Failed;
    result.failures.push_back(error.what());
    return result;
  }
}

// The device called `name`: the emulated one in a program that links it, which loads no other backend.
mblm::Device device_named(const std::string& name) {
  const auto choice = mblm::parse_device(name);
  return choice && mblm::has_runtime(choice->device.kind) ? choice->device : mblm::open_device(name);
}

struct Arguments {
  mblm::Device device;
  std::string precision;           // empty: both
  std::vector<std::string> names;  // empty: all
};

Arguments read_arguments(int argc, char** argv) {
  Arguments read;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with("--")) mblm::require(i + 1 < argc, argument, ": expected a value");
    if (argument == "--device")
      read.device = device_named(argv[++i]);
    else if (argument == "--precision")
      read.precision = argv[++i];
    else
      read.names.push_back(argument);
  }
  return read;
}

}  // namespace

int main(int argc, char** argv) {
  int counts[3] = {};
  try {
    const Arguments wanted = read_arguments(argc, argv);
    std::size_t index = 0;
    for (const Case& c : find_cases(golden_folders())) {
      if (!wanted.names.empty() && std::find(wanted.names.begin(), wanted.names.end(), c.name()) == wanted.names.end()) continue;
      if (!wanted.precision.empty() && (c.is_data || wanted.precision != mblm::name_of(c.precision))) continue;
      if (mblm::testing::is_left_out(index++)) continue;
      const GoldenResult result = run(c, wanted.device);
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
