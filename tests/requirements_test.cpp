// The README lists the oldest versions that Meson requires, and CHANGELOG.md this version.
#include <doctest/doctest.h>

#include <filesystem>
#include <regex>
#include <utility>
#include <vector>

#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

const std::filesystem::path root = MBLM_SOURCE_ROOT;

// What the build files require: the row's name in the README, and the version.
std::vector<std::pair<std::string, std::string>> required_versions() {
  std::vector<std::pair<std::string, std::string>> all;
  const std::regex library("dependency\\('([^']+)', version: '>=([0-9.]+)'");
  std::string texts;
  for (const char* file : {"meson.build", "bench/meson.build", "cuda/meson.build", "mpi/meson.build", "serve/meson.build", "tests/meson.build"})
    texts += read_file(root / file);
  for (std::sregex_iterator at(texts.begin(), texts.end(), library), end; at != end; ++at) all.emplace_back("`" + at->str(1) + "`", at->str(2));
  const std::vector<std::pair<std::string, std::string>> others = {{"g\\+\\+", "'gcc': '([0-9.]+)'"},
                                                                   {"or clang\\+\\+", "'clang': '([0-9.]+)'"},
                                                                   {"Meson", "meson_version: '>=([0-9.]+)'"},
                                                                   {"oneDNN \\(`dnnl`\\)", "expected oneDNN ([0-9.]+) or newer"},
                                                                   {"doctest", "expected doctest ([0-9.]+) or newer"},
                                                                   {"CUDA Toolkit \\(`nvcc`\\)", "'nvcc', version: '>=([0-9.]+)'"},
                                                                   {"MPI", "expected an implementation of MPI ([0-9.]+) or newer"}};
  for (const auto& [name, pattern] : others) {
    CAPTURE(name);
    std::smatch found;
    REQUIRE(std::regex_search(texts, found, std::regex(pattern)));
    all.emplace_back(name, found.str(1));
  }
  return all;
}

}  // namespace

TEST_CASE("the README lists the versions that the build requires") {
  const std::string readme = read_file(root / "README.md");
  const auto all = required_versions();
  CHECK(all.size() == 18);
  for (const auto& [name, version] : all) {
    CAPTURE(name);
    CHECK(std::regex_search(readme, std::regex("\\| " + name + "[^|\n]*\\| " + version + " \\|")));
  }
}

TEST_CASE("the list of changes contains this version") {
  const std::string build = read_file(root / "meson.build");
  std::smatch version;
  REQUIRE(std::regex_search(build, version, std::regex("\n  version: '([0-9.]+)'")));
  CHECK(read_file(root / "CHANGELOG.md").find("\n## " + version.str(1)) != std::string::npos);
}

}  // namespace mblm::testing
