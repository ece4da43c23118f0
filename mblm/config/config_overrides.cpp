#include "mblm/config/config_overrides.h"

#include <charconv>
#include <vector>

#include "engine/error.h"
#include "mblm/config/field_reader.h"

namespace mblm {
namespace {

// A field's name, or an index into a list if the name is empty.
struct Step {
  std::string name;
  std::size_t index = 0;
};

[[noreturn]] void fail(const std::string& path, const std::string& message) { throw ConfigError("command line: " + path + ": " + message); }

// `params.block[0].d_state` -> params, block, 0, d_state.
std::vector<Step> steps_of(const std::string& path) {
  constexpr const char* expectation = "expected a field such as train.batch_size or params.block[0].d_state";
  std::vector<Step> steps;
  std::size_t at = 0;
  while (true) {
    const std::size_t end = std::min(path.find_first_of(".[", at), path.size());
    if (end == at || path.find_first_of(" ]", at) < end) fail(path, expectation);
    steps.push_back({path.substr(at, end - at)});
    at = end;
    while (at < path.size() && path[at] == '[') {
      Step step;
      const char* last = path.data() + path.size();
      const auto [closing, error] = std::from_chars(path.data() + at + 1, last, step.index);
      if (error != std::errc() || closing == last || *closing != ']') fail(path, expectation);
      steps.push_back(step);
      at = static_cast<std::size_t>(closing - path.data()) + 1;
    }
    if (at == path.size()) return steps;
    if (path[at++] != '.') fail(path, expectation);
  }
}

void mark(YamlValue& value) {
  value.line = command_line;
  for (YamlValue& item : value.items) mark(item);
}

bool is_quoted(const std::string& text) {
  return text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front();
}

YamlValue text_value(const std::string& text) {
  YamlValue value = yaml_of(text);
  value.literal = text;
  return value;
}

// Reads VALUE as YAML, and keeps its text for fields that are text: whether a field is text is known when it is read. Text that is no
// YAML, and plain YAML text, which a comment could have cut, is literal for any field.
YamlValue parse_value(const std::string& text) {
  YamlValue value;
  try {
    value = parse_yaml(text, "command line", false);
  } catch (const ConfigError&) {
    return text_value(text);
  }
  const bool is_scalar = value.kind == YamlValue::Kind::Scalar;
  if (is_scalar && !value.plain && is_quoted(text)) return value;
  if (is_scalar && !(value.plain && (is_integer(value) || to_number(value) || to_bool(value)))) return text_value(text);
  value.literal = text;
  return value;
}

// `params.block[1].d_state` for a path that names the entries of the list `before` without brackets: `params.block.1.d_state`, or
// `params.block.d_state` (the first entry).
std::string with_brackets(const std::string& path, const std::string& before, const std::string& name) {
  const std::string rest = path.substr(before.size() + 1);
  const bool is_index = name.find_first_not_of("0123456789") == std::string::npos;
  return before + (is_index ? "[" + name + "]" + rest.substr(name.size()) : "[0]." + rest);
}

YamlValue& enter(YamlValue& value, const Step& step, const std::string& path, const std::string& before) {
  if (step.name.empty()) {
    if (value.kind != YamlValue::Kind::List) fail(path, "expected a list at " + before + ", found " + shown(value));
    if (step.index >= value.items.size()) fail(path, concat_text("expected an index below ", value.items.size(), ", got ", step.index));
    return value.items[step.index];
  }
  const bool is_map = value.kind == YamlValue::Kind::Map || value.kind == YamlValue::Kind::Null;
  const bool is_list = value.kind == YamlValue::Kind::List && !value.items.empty();
  const std::string meant = is_list && path.starts_with(before + ".") ? ", did you mean " + with_brackets(path, before, step.name) + "?" : "";
  if (!is_map) fail(path, "expected a map at " + before + ", found " + shown(value) + meant);
  YamlValue* found = value.find(step.name);
  if (found != nullptr) return *found;
  YamlValue& added = value.add(step.name, {});
  added.line = command_line;
  return added;
}

}  // namespace

void apply_override(YamlValue& root, const std::string& override) {
  const std::size_t equals = override.find('=');
  if (equals == std::string::npos) throw ConfigError("command line: expected FIELD=VALUE, got " + in_quotes(override));
  const std::string path = override.substr(0, equals);
  YamlValue* value = &root;
  std::string before = "the top";
  for (const Step& step : steps_of(path)) {
    value = &enter(*value, step, path, before);
    const std::string name = step.name.empty() ? concat_text("[", step.index, "]") : step.name;
    before = before == "the top" ? name : before + (step.name.empty() ? "" : ".") + name;
  }
  *value = parse_value(override.substr(equals + 1));
  mark(*value);
}

}  // namespace mblm
