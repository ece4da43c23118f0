// The page about all fields and the commented config follow the declarations of the fields.
#include "mblm/config/field_docs.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "mblm/config/field_paths.h"
#include "tests/config_text.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

const std::filesystem::path page = std::filesystem::path(MBLM_SOURCE_ROOT) / "docs/config.md";

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("every field has a meaning and an example, and every entry is a field") {
  for (const std::string& path : field_paths()) {
    CAPTURE(path);
    const std::size_t dot = path.rfind('.');
    const std::string section = path.substr(0, dot);
    const FieldDoc& doc = doc_of_field(section == "params.block" ? "block" : section, path.substr(dot + 1));
    CHECK(doc.meaning.ends_with('.'));
    CHECK_FALSE(doc.example.empty());
  }
  CHECK(field_docs().size() == field_paths().size());
}

// MBLM_UPDATE=1 writes the page.
TEST_CASE("docs/config.md is the reference of the fields") {
  if (std::getenv("MBLM_UPDATE") != nullptr) std::ofstream(page) << field_reference();
  CHECK_MESSAGE(read_file(page) == field_reference(), "run build/tests/config_test with MBLM_UPDATE=1");
  for (const FieldDoc& doc : field_docs()) CHECK(contains(field_reference(), "| `" + doc.name + "` |"));
}

TEST_CASE("the examples of the page are valid values") {
  for (const FieldDoc& doc : field_docs()) {
    if (doc.section == "block" || doc.name == "block" || doc.name == "mblm_config" || doc.name.starts_with("mask") || doc.section == "params") continue;
    CAPTURE(doc.name);
    std::vector<std::string> overrides{doc.section + "." + doc.name + "=" + doc.example};
    if (doc.section == "resume") overrides.insert(overrides.begin(), "resume.checkpoint_file=x.pth");
    CHECK_NOTHROW(parsed(small_config, overrides));
  }
}

TEST_CASE("a commented config reads back as the same config and explains each field once") {
  const RunConfig config = parsed(small_config);
  const std::string text = commented_yaml(config, {"first", "second"});
  CHECK(text.starts_with("# first\n# second\n"));
  CHECK(to_yaml(parsed(text)) == to_yaml(config));
  for (const FieldDoc& doc : field_docs()) {
    if (doc.section == "resume" || doc.name == "mblm_config" || doc.name.starts_with("mask_")) continue;
    CAPTURE(doc.name);
    const std::string comment = "# " + wrapped(doc.meaning, 60).front().substr(0, 30);
    const std::size_t at = text.find(comment);
    CHECK(at != std::string::npos);
    CHECK(text.find(comment, at + 1) == std::string::npos);
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);
}

TEST_CASE("text is broken at spaces") {
  using Lines = std::vector<std::string>;
  CHECK(wrapped("", 10) == Lines{});
  CHECK(wrapped("one two three", 7) == Lines{"one two", "three"});
  CHECK(wrapped("one  two", 3) == Lines{"one", "two"});
  CHECK(wrapped("incomprehensible word", 5) == Lines{"incomprehensible", "word"});
}

}  // namespace mblm::testing
