// Text of a configuration: literal values of the command line, merge keys, and names of runs.
#include <doctest/doctest.h>

#include "engine/error.h"
#include "mblm/config/yaml.h"
#include "tests/config_text.h"

namespace mblm::testing {

TEST_CASE("text on the command line is literal") {
  const auto description = [](const std::string& value) { return parsed(small_config, {"io.description=" + value}).io.description; };
  for (const char* text : {"see bug #12", "note: this", "a #", "#a", "[a", "{a: b}", "- a", "*a", "&a b", "007", "true", "~", "1e3", "a: b: c", "%", "'a' or 'b'",
                           "\"a", "'", "a\\nb", " a ", "!x"}) {
    CAPTURE(text);
    CHECK(description(text) == text);
    const RunConfig config = parsed(small_config, {std::string("io.description=") + text});
    CHECK(parsed(to_yaml(config)).io.description == text);
  }
  CHECK(description("null") == std::nullopt);
  CHECK(description("'null'") == "null");
  CHECK(description("\"a\\tb # c\"") == "a\tb # c");
  CHECK(parsed(small_config, {"io.dataset_dir=data #2"}).io.dataset_dir == "data #2");
  CHECK(parsed(small_config, {"io.name_model=null"}).io.name_model == "null");  // cannot be null
  CHECK(*parsed(small_config, {"io.dataset_args.mode=a #2"}).io.dataset_args == "mode: \"a #2\"\n");
  CHECK(parsed(small_config, {"train.batch_size=8 # other fields are YAML"}).train.batch_size == 8);
  CHECK(error_of({"train.on_nonfinite=skip #2"}) == "command line: train.on_nonfinite: expected stop or skip, got \"skip #2\"");
}

TEST_CASE("merge keys") {
  const auto d_state = [](const std::string& block) {
    const std::string base = "params: &whole\n  shared: &shared {d_conv: 4, expand: 2, headdim: 8, d_state: 8}\n  other: &other {d_state: 16, headdim: 4}\n";
    const YamlValue value = parse_yaml(base + "block: " + block + "\n", "c.yaml");
    return value.find("block")->find("d_state")->text + " " + value.find("block")->find("headdim")->text;
  };
  CHECK(d_state("{<<: *shared}") == "8 8");
  CHECK(d_state("{<<: *shared, d_state: 32}") == "32 8");
  CHECK(d_state("{d_state: 32, <<: *shared}") == "32 8");  // in any order
  CHECK(d_state("{<<: [*shared, *other]}") == "8 8");      // the earlier one wins
  CHECK(d_state("{<<: [*other, *shared]}") == "16 4");
  CHECK(d_state("{<<: *shared, <<: *other}") == "16 4");  // as in PyYAML, the later key wins
  CHECK(d_state("{<<: {d_state: 1, <<: *other}}") == "1 4");
  CHECK(d_state("\n  <<: *other\n  d_state: 3") == "3 4");
  const YamlValue chained = parse_yaml("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\n", "c.yaml");
  CHECK(chained.find("c")->keys == std::vector<std::string>{"y", "x"});
  CHECK(chained.find("c")->find("<<") == nullptr);
  CHECK(parse_yaml("a: {'<<': {x: 1}}\n", "c.yaml").find("a")->find("<<") != nullptr);  // a key like any other
  CHECK(parse_yaml("a: {<<: []}\n", "c.yaml").find("a")->kind == YamlValue::Kind::Map);
  const auto error = [](const std::string& yaml) { return error_text<ConfigError>([&] { parse_yaml(yaml, "c.yaml"); }); };
  const std::string message = "c.yaml:2: not YAML: the merge key << takes a map or a list of maps";
  for (const char* value : {"3", "text", "null", "[1]", "[[{x: 1}]]", "[{x: 1}, 2]"}) CHECK(error(std::string("a:\n  <<: ") + value) == message);
  CHECK(error("a: {<<: {x: 1}, y: 1, y: 2}").find("duplicate key \"y\"") != std::string::npos);
  std::string bomb = "a0: &a0 {k: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}\n";
  for (int i = 1; i < 60; ++i) bomb += concat_text("a", i, ": &a", i, " {l", i, ": *a", i - 1, ", <<: *a", i - 1, "}\n");
  CHECK(error(bomb).find("more than 100000 values") != std::string::npos);
}

TEST_CASE("the name of a run stays below the output folder") {
  for (const char* name : {"../x", "..", "a/../../x", "/x", "x/"})
    CHECK(error_of({std::string("io.name_model=") + name}).ends_with(": io.name_model: expected a relative path below io.output_dir, got \"" + std::string(name) + "\""));
  CHECK(parsed(small_config, {"io.name_model=group/x..y"}).io.name_model == "group/x..y");
}

}  // namespace mblm::testing
