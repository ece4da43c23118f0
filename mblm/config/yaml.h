// Converts YAML text to a tree of values with line numbers, and back. Only yaml_parse.cpp uses the parser library.
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
  std::string text;               // content of a scalar
  bool plain = false;             // a scalar without quotes, which may be a number or a boolean
  // The text of a command line's VALUE, which a text field takes literally; unset for values of a file and for quoted text.
  std::optional<std::string> literal;
  std::vector<std::string> keys;  // keys of a map, one per item, in text order
  std::vector<YamlValue> items;   // entries of a list, or values of a map
  int line = 0;                   // line of the key in a map, of the value elsewhere; 0 if unknown

  const YamlValue* find(std::string_view key) const;  // null if the key is missing
  YamlValue* find(std::string_view key);
  YamlValue& add(std::string key, YamlValue value);  // turns a null value into a map
};

// Parses one document. Throws ConfigError, `ORIGIN:LINE: ...`, for text that is not YAML, a duplicate key in a map, a key that is
// not a scalar, and more than one document. With `has_lines` false the text is part of a line, and errors and values have no line
// number.
YamlValue parse_yaml(const std::string& text, const std::string& origin, bool has_lines = true);

// Writes text that parses to the same tree in YAML 1.1 and 1.2. Ends in a new line.
std::string write_yaml(const YamlValue& value);

// The value of a plain scalar, nullopt for any other value. Numbers may have `_` between digits (YAML 1.1). Hexadecimal numbers,
// octal numbers (a leading zero), infinity and NaN are not numbers here.
bool is_integer(const YamlValue& value);
bool has_leading_zero(const YamlValue& value);  // an integer such as 010: octal in YAML 1.1, decimal in 1.2
std::optional<std::int64_t> to_integer(const YamlValue& value);  // also 1.0e+9 and 2.0, as in the package; nullopt also beyond 64 bits
std::optional<double> to_number(const YamlValue& value);         // accepts integers; nullopt also beyond a double's range
std::optional<bool> to_bool(const YamlValue& value);             // true, false, yes, no, on, off

YamlValue yaml_of(std::int64_t value);
YamlValue yaml_of(double value);
YamlValue yaml_of(bool value);
YamlValue yaml_of(const std::string& value);

// Formats a value for an error: `5`, `true`, `"abc"` (escaped, truncated if long), `null`, `a list of 3`, `a map`.
std::string shown(const YamlValue& value);
std::string in_quotes(std::string_view text);  // double-quoted with JSON's escapes, which are valid in YAML

}  // namespace mblm
