// Checks the includes of the source files by folder:
//   engine <- engine/io <- ops <- mblm/config <- mblm <- train/data <- train <- program
// serve includes mblm and what is below it, and program includes serve.
// cpu and cuda may include ops and engine; mpi may include train and engine; only tests and bench may include cpu and cuda. The
// examples may include each other and the headers for other programs: mblm/mblm.h, and engine/kernel_data.h for custom kernels.
// The headers of each vendor library are confined to the folders listed below.
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

// Folders of source files. The longest matching name counts.
const std::vector<std::string> folders = {"engine", "engine/io", "ops",  "cpu",     "cuda", "mblm/config", "mblm",
                                          "train",  "train/data", "mpi", "serve", "program", "examples", "tests", "bench"};

// A folder and the folders below it in the stack.
std::set<std::string> stack_up_to(const std::string& folder) {
  std::set<std::string> seen;
  for (const char* layer : {"engine", "engine/io", "ops", "mblm/config", "mblm", "train/data", "train", "program"}) {
    seen.insert(layer);
    if (layer == folder) break;
  }
  return seen;
}

std::set<std::string> with(std::set<std::string> folders, const char* one) {
  folders.insert(one);
  return folders;
}

const std::map<std::string, std::set<std::string>> seen_from = {
    {"engine", stack_up_to("engine")},
    {"engine/io", stack_up_to("engine/io")},
    {"ops", stack_up_to("ops")},
    {"mblm/config", stack_up_to("mblm/config")},
    {"mblm", stack_up_to("mblm")},
    {"train/data", stack_up_to("train/data")},
    {"train", stack_up_to("train")},
    {"serve", with(stack_up_to("mblm"), "serve")},
    {"program", with(stack_up_to("program"), "serve")},
    {"cpu", {"cpu", "ops", "engine"}},
    {"cuda", {"cuda", "ops", "engine"}},
    {"mpi", {"mpi", "train", "engine"}},
    {"examples", {"examples"}},
    {"tests", {"tests", "examples", "program", "serve", "train", "train/data", "mblm", "mblm/config", "cuda", "cpu", "ops", "engine/io", "engine"}},
    {"bench", {"bench", "tests", "examples", "program", "serve", "train", "train/data", "mblm", "mblm/config", "cuda", "cpu", "ops", "engine/io", "engine"}},
};

// Headers that only the given folders may include.
const std::map<std::string, std::set<std::string>> reserved_headers = {
    {"mblm/mblm.h", {"examples", "tests", "bench"}},  // includes the whole library
    {"engine/kernel_data.h", {"engine", "cpu", "cuda", "tests", "examples"}},
};

struct Vendor {
  std::set<std::string> homes;
  std::vector<std::string> prefixes;  // of its header names
};
const std::vector<Vendor> vendors = {
    {{"cpu"}, {"Eigen/", "unsupported/Eigen", "dnnl", "oneapi/dnnl"}},
    {{"mpi"}, {"mpi.h"}},
    {{"serve", "tests"}, {"httplib"}},
    {{"cuda"}, {"cuda",    "cublas",         "cudnn",          "cufft",
              "curand",  "cusolver",       "cusparse",       "nccl",
              "nvtx",    "nvrtc",          "nvml",           "cub/",
              "thrust/", "cutlass/",       "cute/",          "cooperative_groups",
              "mma.h",   "driver_types.h", "vector_types.h", "device_launch_parameters.h"}},
    {{"engine/io"}, {"xxhash.h"}},
    {{"cpu"}, {"immintrin.h", "xmmintrin.h", "emmintrin.h", "x86intrin.h", "cpuid.h", "arm_"}},  // processors: other folders compile for all
    {{"train/data", "bench"}, {"png.h", "jpeglib.h"}},  // bench/ writes images to read
    {{"engine", "cpu"}, {"omp.h"}},  // engine/parallel.h provides the threads; cpu/ turns off the threads of libraries
};

// The folder of a path: "engine/io" for "engine/io/safetensors.h"; empty for a path outside all folders.
std::string folder_of(const std::string& path) {
  std::string longest;
  for (const std::string& folder : folders)
    if (path.starts_with(folder + "/") && folder.size() > longest.size()) longest = folder;
  return longest;
}

// The path that a line includes, without quotes or brackets.
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

// The forbidden includes of a file, given its path from the root and its lines.
std::vector<std::string> violations(const std::string& path, const std::vector<std::string>& lines) {
  const std::string folder = folder_of(path);
  std::vector<std::string> found;
  for (const std::string& line : lines) {
    const std::optional<std::string> include = included_by(line);
    if (!include) continue;
    const auto is_vendors = [&](const Vendor& vendor) {
      return std::any_of(vendor.prefixes.begin(), vendor.prefixes.end(), [&](const std::string& prefix) { return include->starts_with(prefix); });
    };
    bool allowed = true;
    if (const auto reserved = reserved_headers.find(*include); reserved != reserved_headers.end()) {
      allowed = reserved->second.count(folder) != 0;
    } else if (const std::string included = folder_of(*include); !included.empty()) {
      allowed = seen_from.at(folder).count(included) != 0;
    } else if (const auto vendor = std::find_if(vendors.begin(), vendors.end(), is_vendors); vendor != vendors.end()) {
      allowed = vendor->homes.count(folder) != 0;
    } else {
      // Quotes are for our files, by their path from the root. Examples include each other by name, since they may be copied.
      allowed = line.find('<') != std::string::npos || (folder == "examples" && include->find('/') == std::string::npos);
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
    for (const auto& entry : std::filesystem::directory_iterator(root / folder)) {
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

TEST_CASE("files include only allowed headers") {
  const std::vector<SourceFile> files = source_files();
  REQUIRE(files.size() > 20);
  std::size_t includes = 0;
  for (const SourceFile& file : files) {
    for (const std::string& line : file.lines) includes += included_by(line) ? 1 : 0;
    for (const std::string& violation : violations(file.path, file.lines)) FAIL_CHECK(violation);
  }
  CHECK(includes > files.size());
}

TEST_CASE("mblm/mblm.h includes every op") {
  std::set<std::string> included;
  std::ifstream umbrella(MBLM_UMBRELLA_HEADER);
  for (std::string line; std::getline(umbrella, line);)
    if (const auto include = included_by(line)) included.insert(*include);
  CHECK(included.size() > 60);
  CHECK(included.count("engine/kernel_data.h") == 0);
  for (const SourceFile& file : source_files()) {
    if (!file.path.starts_with("ops/") || !file.path.ends_with(".h") || file.path == "ops/check.h") continue;
    CAPTURE(file.path);
    CHECK(included.count(file.path) == 1);
  }
}

// Functions of std::filesystem throw an exception that is not an mblm::Error, unless they get an error code or a file_status; so does
// incrementing a directory_iterator in a range-based for loop. engine/io/folder.h has our own.
std::optional<std::string> throwing_call_in(const std::string& line) {
  for (const char* name : {"exists", "is_directory", "is_regular_file", "is_symlink", "status", "file_size", "create_directory", "create_directories", "remove",
                           "remove_all", "rename", "canonical", "equivalent", "create_symlink", "read_symlink", "copy_file", "directory_iterator"}) {
    const std::string call = std::string("std::filesystem::") + name;
    for (std::size_t at = line.find(call); at != std::string::npos; at = line.find(call, at + 1)) {
      std::size_t end = at + call.size();
      if (std::string(name) == "directory_iterator") return call;
      if (end >= line.size() || line[end] != '(') continue;
      int depth = 0;
      do depth += line[end] == '(' ? 1 : line[end] == ')' ? -1 : 0;
      while (depth > 0 && ++end < line.size());
      const std::string arguments = line.substr(at + call.size(), end - at - call.size());
      if (arguments.find("error") == std::string::npos && arguments.find("ignored") == std::string::npos && arguments.find("status") == std::string::npos &&
          arguments.find("refused") == std::string::npos)
        return call;
    }
  }
  return {};
}

TEST_CASE("library and program use no function of std::filesystem that throws") {
  CHECK(throwing_call_in("if (std::filesystem::exists(path)) return;"));
  CHECK(throwing_call_in("if (std::filesystem::exists(a / b(1), error) && std::filesystem::is_directory(path)) error();"));
  CHECK(throwing_call_in("for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {"));
  CHECK_FALSE(throwing_call_in("if (!std::filesystem::exists(a / b(1), error)) std::filesystem::remove(path, ignored);"));
  CHECK_FALSE(throwing_call_in("return std::filesystem::is_directory(status_of(path));"));
  for (const SourceFile& file : source_files()) {
    if (file.path.starts_with("tests/") || file.path.starts_with("bench/") || file.path.starts_with("examples/") || file.path == "engine/io/folder.cpp") continue;
    CAPTURE(file.path);
    for (const std::string& line : file.lines) {
      CAPTURE(line);
      CHECK_FALSE(throwing_call_in(line));
    }
  }
}

TEST_CASE("files have at most 600 lines") {
  for (const SourceFile& file : source_files()) {
    CAPTURE(file.path);
    CHECK(file.lines.size() <= longest_file);
  }
}

TEST_CASE("the check detects violations") {
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
  CHECK(refused("mblm/model.cpp", "#include \"program/train.h\""));
  CHECK(refused("mblm/model.cpp", "#include \"cpu/kernel.h\""));
  CHECK(refused("train/trainer.cpp", "#include \"program/train.h\""));
  CHECK(refused("train/trainer.cpp", "#include \"tests/op_case.h\""));
  CHECK(refused("tests/x.cpp", "#include <Eigen/Dense>"));
  CHECK(refused("mblm/model.cpp", "#include \"mblm/mblm.h\""));
  CHECK(refused("train/trainer.cpp", "#include \"mblm/mblm.h\""));
  CHECK(refused("examples/x.cpp", "#include \"mblm/model.h\""));
  CHECK(refused("engine/tensor.cpp", "#include \"engine/io/safetensors.h\""));
  CHECK(refused("engine/io/safetensors.cpp", "#include \"ops/add.h\""));
  CHECK(refused("mblm/config/config.h", "#include \"mblm/model.h\""));
  CHECK(refused("mblm/model.cpp", "#include \"train/data/dataset.h\""));
  CHECK(refused("train/data/dataset.cpp", "#include \"train/trainer.h\""));
  CHECK(refused("cpu/add.cpp", "#include \"engine/io/safetensors.h\""));
  CHECK(refused("mblm/model.cpp", "#include \"engine/kernel_data.h\""));
  CHECK(refused("train/trainer.cpp", "#include \"engine/kernel_data.h\""));
  CHECK(refused("serve/x.cpp", "#include \"program/program.h\""));
  CHECK(refused("serve/x.cpp", "#include \"train/trainer.h\""));
  CHECK(refused("train/x.cpp", "#include \"serve/scheduler.h\""));
  CHECK(refused("program/x.cpp", "#include <httplib.h>"));
  CHECK(refused("engine/x.cpp", "#include <xmmintrin.h>"));
  CHECK(refused("train/x.cpp", "#include <immintrin.h>"));
  CHECK(refused("engine/x.cpp", "#include \"tensor.h\""));  // not a path from the root
}

TEST_CASE("the check accepts allowed includes") {
  const auto allowed = [](const std::string& path, const std::string& line) { return violations(path, {line}).empty(); };
  CHECK(allowed("engine/x.cpp", "#include \"engine/tensor.h\""));
  CHECK(allowed("engine/x.cpp", "#include <omp.h>"));
  CHECK(allowed("engine/x.cpp", "// #include \"ops/add.h\""));
  CHECK(allowed("ops/x.cpp", "#include <vector>"));
  CHECK(allowed("cpu/x.cpp", "#include <Eigen/Dense>"));
  CHECK(allowed("cpu/x.cpp", "#include <immintrin.h>"));
  CHECK(allowed("cuda/x.cu", "#include <cublasLt.h>"));
  CHECK(allowed("mpi/x.cpp", "#include <mpi.h>"));
  CHECK(allowed("mpi/x.cpp", "#include \"train/communicator.h\""));
  CHECK(allowed("serve/x.cpp", "#include \"mblm/generator.h\""));
  CHECK(allowed("serve/x.cpp", "#include <httplib.h>"));
  CHECK(allowed("program/serve.cpp", "#include \"serve/http_server.h\""));
  CHECK(allowed("program/main.cpp", "#include \"train/trainer.h\""));
  CHECK(allowed("program/train.cpp", "#include \"program/train.h\""));
  CHECK(allowed("tests/x.cpp", "#include \"cpu/lanes.h\""));
  CHECK(allowed("bench/x.cpp", "#include \"tests/op_case.h\""));
  CHECK(allowed("engine/io/x.cpp", "#include \"engine/tensor.h\""));
  CHECK(allowed("mblm/model.cpp", "#include \"mblm/config/config.h\""));
  CHECK(allowed("train/trainer.cpp", "#include \"train/data/dataset.h\""));
  CHECK(allowed("examples/x.cpp", "#include \"mblm/mblm.h\""));
  CHECK(allowed("examples/x.cpp", "#include \"engine/kernel_data.h\""));
  CHECK(allowed("cpu/x.cpp", "#include \"engine/kernel_data.h\""));
}

}  // namespace mblm::testing
