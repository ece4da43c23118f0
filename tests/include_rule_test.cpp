// The source files against the plan of the house:
//   engine <- ops <- mblm <- train <- the program (mblm/main.cpp, mblm/program*, mblm/progress_line.*)
// cpu and cuda see ops and engine, mpi sees train and engine; they are seen by nobody but tests and bench, which see everything.
// The examples see what a program outside sees: mblm/mblm.h, which includes all that is installed, and each other. A vendor's
// headers are included in one folder.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace mblm::testing {
namespace {

constexpr std::size_t longest_file = 600;  // lines

const std::vector<std::string> folders = {"engine", "ops", "cpu", "cuda", "mblm", "train", "mpi", "examples", "tests", "bench"};

const std::map<std::string, std::set<std::string>> seen_from = {
    {"engine", {"engine"}},
    {"ops", {"ops", "engine"}},
    {"cpu", {"cpu", "ops", "engine"}},
    {{"cuda"}, {"cuda", "ops", "engine"}},
    {"mblm", {"mblm", "ops", "engine"}},
    {"program", {"program", "train", "mblm", "ops", "engine"}},
    {"train", {"train", "mblm", "ops", "engine"}},
    {"mpi", {"train", "engine"}},
    {"umbrella", {"train", "mblm", "ops", "engine"}},
    {"examples", {"examples", "umbrella"}},
    {"tests", {"tests", "examples", "umbrella", "program", "train", "mblm", "cuda", "cpu", "ops", "engine"}},
    {"bench", {"bench", "tests", "examples", "umbrella", "program", "train", "mblm", "cuda", "cpu", "ops", "engine"}},
};

struct Vendor {
  std::set<std::string> homes;
  std::vector<std::string> prefixes;  // of the names of its headers
};
const std::vector<Vendor> vendors = {
    {{"cpu"}, {"Eigen/", "unsupported/Eigen", "dnnl", "oneapi/dnnl"}},
    {{"mpi"}, {"mpi.h"}},
    {{"cuda"}, {"cuda",    "cublas",         "cudnn",          "cufft",
              "curand",  "cusolver",       "cusparse",       "nccl",
              "nvtx",    "nvrtc",          "nvml",           "cub/",
              "thrust/", "cutlass/",       "cute/",          "cooperative_groups",
              "mma.h",   "driver_types.h", "vector_types.h", "device_launch_parameters.h"}},
    {{"train", "bench"}, {"png.h", "jpeglib.h"}},  // bench/ draws pictures to read
    {{"engine", "cpu"}, {"omp.h"}},  // threads come from engine/parallel.h; cpu/ keeps libraries from having their own
};

// "engine" for "engine/tensor.h"; the program's files in mblm/ count as a folder of their own, mblm/mblm.h too.
std::string part_of(const std::string& path) {
  if (path == "mblm/mblm.h") return "umbrella";
  for (const char* prefix : {"mblm/main.", "mblm/program", "mblm/progress_line."})
    if (path.starts_with(prefix)) return "program";
  return path.substr(0, path.find('/'));
}

bool is_ours(const std::string& include) {
  return include.find('/') != std::string::npos && std::find(folders.begin(), folders.end(), include.substr(0, include.find('/'))) != folders.end();
}

// What a line includes, without quotes or brackets.
std::optional<std::string> included_by(const std::string& line) {
  const auto skip_space = [&](std::size_t at) { return std::min(line.find_first_not_of(" \t", at), line.size()); };
  std::size_t at = skip_space(0);
  if (at == line.size() || line[at] != '#') return {};
  at = skip_space(at + 1);
  if (line.compare(at, 7, "include") != 0) return {};
  at = skip_space(at + 7);
  if (at == line.size() || (line[at] != '"' && line[at] != '<')) return {};
  const std::size_t end = line.find(line[at] == '"' ? '"' : '>', at + 1);
  return end == std::string::npos ? std::nullopt : std::optional(line.substr(at + 1, end - at - 1));
}

// The includes of a file (its path from the root, its lines) that the plan does not allow.
std::vector<std::string> violations(const std::string& path, const std::vector<std::string>& lines) {
  const std::string part = part_of(path);
  std::vector<std::string> found;
  for (const std::string& line : lines) {
    const std::optional<std::string> include = included_by(line);
    if (!include) continue;
    const auto is_vendors = [&](const Vendor& vendor) {
      return std::any_of(vendor.prefixes.begin(), vendor.prefixes.end(), [&](const std::string& prefix) { return include->starts_with(prefix); });
    };
    bool allowed = true;
    if (is_ours(*include)) {
      allowed = seen_from.at(part).count(part_of(*include)) != 0;
    } else if (const auto vendor = std::find_if(vendors.begin(), vendors.end(), is_vendors); vendor != vendors.end()) {
      allowed = vendor->homes.count(part) != 0;
    } else {
      // Quotes are for our files, by their path from the root; an example finds the others beside itself wherever it lies.
      allowed = line.find('<') != std::string::npos || (part == "examples" && include->find('/') == std::string::npos);
    }
    if (!allowed) found.push_back(path + " includes " + *include);
  }
  return found;
}

struct SourceFile {
  std::string path;  // from the root
  std::vector<std::string> lines;
};

std::vector<SourceFile> source_files() {
  const std::filesystem::path root = MBLM_SOURCE_ROOT;
  std::vector<SourceFile> files;
  for (const std::string& folder : folders) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
      SourceFile file{entry.path().lexically_relative(root).generic_string(), {}};
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);) file.lines.push_back(line);
      files.push_back(std::move(file));
    }
  }
  return files;
}

}  // namespace

TEST_CASE("files include only what the plan allows") {
  const std::vector<SourceFile> files = source_files();
  REQUIRE(files.size() > 20);
  std::size_t includes = 0;
  for (const SourceFile& file : files) {
    for (const std::string& line : file.lines) includes += included_by(line) ? 1 : 0;
    for (const std::string& violation : violations(file.path, file.lines)) FAIL_CHECK(violation);
  }
  CHECK(includes > files.size());
}

TEST_CASE("mblm/mblm.h has every op") {
  const std::vector<SourceFile> files = source_files();
  const auto umbrella = std::find_if(files.begin(), files.end(), [](const SourceFile& file) { return file.path == "mblm/mblm.h"; });
  REQUIRE(umbrella != files.end());
  for (const SourceFile& file : files) {
    if (!file.path.starts_with("ops/") || !file.path.ends_with(".h") || file.path == "ops/check.h") continue;
    CAPTURE(file.path);
    CHECK(std::count(umbrella->lines.begin(), umbrella->lines.end(), "#include \"" + file.path + "\"") == 1);
  }
}

TEST_CASE("files are short") {
  for (const SourceFile& file : source_files()) {
    CAPTURE(file.path);
    CHECK(file.lines.size() <= longest_file);
  }
}

TEST_CASE("the check finds made-up violations") {
  const auto refused = [](const std::string& path, const std::string& line) { return violations(path, {"// text", line}).size() == 1; };
  CHECK(refused("engine/x.cpp", "#include \"ops/add.h\""));
  CHECK(refused("engine/x.cpp", "#include <ops/add.h>"));
  CHECK(refused("engine/x.h", "  #  include \"cpu/kernel.h\""));
  CHECK(refused("ops/x.cpp", "#include \"mblm/model.h\""));
  CHECK(refused("ops/x.cpp", "#include \"cpu/kernel.h\""));
  CHECK(refused("ops/x.cpp", "#include <Eigen/Dense>"));
  CHECK(refused("cpu/x.cpp", "#include \"mblm/model.h\""));
  CHECK(refused("cpu/x.cpp", "#include \"cuda/kernel.h\""));
  CHECK(refused("cpu/x.cpp", "#include <cuda_runtime.h>"));
  CHECK(refused("ops/x.cpp", "#include <omp.h>"));
  CHECK(refused("cuda/x.cu", "#include <dnnl.hpp>"));
  CHECK(refused("train/x.cpp", "#include <mpi.h>"));
  CHECK(refused("train/x.cpp", "#include \"mpi/x.h\""));
  CHECK(refused("mpi/x.cpp", "#include \"mblm/model.h\""));
  CHECK(refused("mblm/model.cpp", "#include \"train/trainer.h\""));
  CHECK(refused("mblm/model.cpp", "#include \"mblm/program_train.h\""));
  CHECK(refused("mblm/model.cpp", "#include \"cpu/kernel.h\""));
  CHECK(refused("train/trainer.cpp", "#include \"mblm/program_train.h\""));
  CHECK(refused("train/trainer.cpp", "#include \"tests/op_case.h\""));
  CHECK(refused("tests/x.cpp", "#include <Eigen/Dense>"));
  CHECK(refused("mblm/model.cpp", "#include \"mblm/mblm.h\""));
  CHECK(refused("train/trainer.cpp", "#include \"mblm/mblm.h\""));
  CHECK(refused("mblm/mblm.h", "#include \"mblm/program.h\""));
  CHECK(refused("examples/x.cpp", "#include \"mblm/model.h\""));
  CHECK(refused("engine/x.cpp", "#include \"tensor.h\""));  // not by its path from the root
}

TEST_CASE("the check lets good includes pass") {
  const auto allowed = [](const std::string& path, const std::string& line) { return violations(path, {line}).empty(); };
  CHECK(allowed("engine/x.cpp", "#include \"engine/tensor.h\""));
  CHECK(allowed("engine/x.cpp", "#include <omp.h>"));
  CHECK(allowed("engine/x.cpp", "// #include \"ops/add.h\""));
  CHECK(allowed("ops/x.cpp", "#include <vector>"));
  CHECK(allowed("cpu/x.cpp", "#include <Eigen/Dense>"));
  CHECK(allowed("cuda/x.cu", "#include <cublasLt.h>"));
  CHECK(allowed("mpi/x.cpp", "#include <mpi.h>"));
  CHECK(allowed("mpi/x.cpp", "#include \"train/communicator.h\""));
  CHECK(allowed("mblm/main.cpp", "#include \"train/trainer.h\""));
  CHECK(allowed("mblm/program_train.cpp", "#include \"mblm/program_train.h\""));
  CHECK(allowed("tests/x.cpp", "#include \"cpu/simd_math.h\""));
  CHECK(allowed("bench/x.cpp", "#include \"tests/op_case.h\""));
}

}  // namespace mblm::testing
