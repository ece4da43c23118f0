// YAML text as a tree of values that know their line, and back. The parser's library appears behind this header only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mblm {

struct YamlValue {
  enum class Kind { Null, Scalar, List, Map };
  Kind kind = Kind::Null;
  std::string text;               // of a scalar
  bool plain = false;             // a scalar without quotes: it may mean a number or a truth value
  std::vector<std::string> keys;  // of a map, one per item, in the order of the text
  std::vector<YamlValue> items;   // of a list or a map
  int line = 0;                   // of the key in a map, of the value elsewhere; 0: unknown

  const YamlValue* find(std::string_view key) const;  // null: no such key
  YamlValue* find(std::string_view key);
  YamlValue& add(std::string key, YamlValue value);  // makes a null value a map
};

// Reads one document. Throws ConfigError, `ORIGIN:LINE: ...`, for what is not YAML, for a key that stands twice in a map, a
// key that is no scalar, and more than one document. With `has_lines` false the text is a part of one line, and errors and
// values have no line number.
YamlValue parse_yaml(const std::string& text, const std::string& origin, bool has_lines = true);

// Text that parses to the same tree, and that parsers of YAML 1.1 and 1.2 understand alike. Ends in a new line.
std::string write_yaml(const YamlValue& value);

// What a plain scalar means; nothing when it is something else. Integers and numbers may have `_` between digits (YAML 1.1);
// hexadecimal, octal (a leading zero), infinity and NaN are not numbers here.
bool is_integer(const YamlValue& value);
std::optional<std::int64_t> to_integer(const YamlValue& value);  // nothing for an integer beyond 64 bits, too
std::optional<double> to_number(const YamlValue& value);         // an integer is a number; nothing beyond a double's range
std::optional<bool> to_bool(const YamlValue& value);             // true, false, yes, no, on, off

YamlValue yaml_of(std::int64_t value);
YamlValue yaml_of(double value);
YamlValue yaml_of(bool value);
YamlValue yaml_of(const std::string& value);

// A value in an error: `5`, `true`, `"abc"` with escapes and cut when long, `null`, `a list of 3`, `a map`.
std::string shown(const YamlValue& value);
std::string in_quotes(std::string_view text);  // double-quoted with the escapes of JSON, which YAML shares

}  // namespace mblm
