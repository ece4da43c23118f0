// Compares the code on the library page (examples/README.md) with the example files.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <sstream>

#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

const std::filesystem::path folder = std::filesystem::path(MBLM_SOURCE_ROOT) / "examples";

// The C++ blocks of a page by the file name after "```cpp "; blocks without a name are listed under the empty name.
std::multimap<std::string, std::string> shown_files(const std::string& page) {
  const std::string fence = "```", start = fence + "cpp";
  std::multimap<std::string, std::string> files;
  std::istringstream lines(page);
  std::multimap<std::string, std::string>::iterator open = files.end();
  for (std::string line; std::getline(lines, line);) {
    if (open == files.end() && line.starts_with(start)) {
      open = files.emplace(line.size() > start.size() ? line.substr(start.size() + 1) : "", "");
    } else if (line == fence) {
      open = files.end();
    } else if (open != files.end()) {
      open->second += line + "\n";
    }
  }
  return files;
}

}  // namespace

TEST_CASE("the page shows every example as compiled") {
  const auto shown = shown_files(read_file(folder / "README.md"));
  std::size_t examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string(), extension = entry.path().extension().string();
    if (extension != ".cpp" && extension != ".h") continue;
    CAPTURE(name);
    ++examples;
    REQUIRE(shown.count(name) == 1);
    CHECK(shown.find(name)->second == read_file(entry.path()));
  }
  CHECK(shown.size() == examples);
  CHECK(examples > 5);
}

TEST_CASE("shown files are distinguished from text and other blocks") {
  const auto shown = shown_files("text\n```sh\nmake\n```\n```cpp a.h\nint a;\n\nint b;\n```\ntext\n```cpp\nlost\n```\n");
  CHECK(shown.size() == 2);
  CHECK(shown.find("a.h")->second == "int a;\n\nint b;\n");
  CHECK(shown.find("")->second == "lost\n");
}

}  // namespace mblm::testing
