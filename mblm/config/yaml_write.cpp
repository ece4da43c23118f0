#include <algorithm>
#include <array>
#include <cctype>

#include "engine/error.h"
#include "mblm/config/yaml.h"

namespace mblm {
namespace {

bool is_scalar(const YamlValue& value) { return value.kind == YamlValue::Kind::Null || value.kind == YamlValue::Kind::Scalar; }

// True for words that some version of YAML does not read as text.
bool is_reserved(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array words{"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  return std::find(words.begin(), words.end(), text) != words.end();
}

// True for text that never needs quotes: it starts with a letter, `/` or `_` and contains no special characters of YAML.
bool is_safe_plain(const std::string& text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto inner = [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '/' || c == '.' || c == '-'; };
  return !text.empty() && (letter(text[0]) || text[0] == '/' || text[0] == '_') && std::all_of(text.begin(), text.end(), inner) && !is_reserved(text);
}

std::string scalar_text(const YamlValue& value) {
  if (value.kind == YamlValue::Kind::Null) return "null";
  const bool means_something = is_integer(value) || to_number(value) || to_bool(value);
  return means_something || is_safe_plain(value.text) ? value.text : in_quotes(value.text);
}

constexpr std::size_t longest_simple_key = 1024;  // including quotes; YAML requires `?` before a longer key

// Returns `KEY:`, or `? KEY` followed by a line with `:`.
std::string key_text(const std::string& key, std::size_t indent) {
  const std::string text = is_safe_plain(key) ? key : in_quotes(key);
  return text.size() <= longest_simple_key ? text + ":" : concat_text("? ", text, "\n", std::string(indent, ' '), ":");
}

// Writes the text after `key:` or `-`; `indent` applies to the lines below.
void write(std::string& out, const YamlValue& value, std::size_t indent);

void write_map(std::string& out, const YamlValue& map, std::size_t indent, bool first_on_line) {
  for (std::size_t i = 0; i < map.items.size(); ++i) {
    if (i > 0 || !first_on_line) out.append(indent, ' ');
    out += key_text(map.keys[i], indent);
    write(out, map.items[i], indent + 2);
  }
}

void write_list(std::string& out, const YamlValue& list, std::size_t indent) {
  for (const YamlValue& item : list.items) {
    out.append(indent, ' ');
    out += "-";
    if (item.kind == YamlValue::Kind::Map && !item.items.empty()) {
      out += ' ';
      write_map(out, item, indent + 2, true);
    } else {
      write(out, item, indent + 2);
    }
  }
}

void write(std::string& out, const YamlValue& value, std::size_t indent) {
  if (is_scalar(value)) {
    out += concat_text(" ", scalar_text(value), "\n");
  } else if (std::all_of(value.items.begin(), value.items.end(), is_scalar) && value.kind == YamlValue::Kind::List) {
    out += " [";
    for (const YamlValue& item : value.items) out += (&item == value.items.data() ? "" : ", ") + scalar_text(item);
    out += "]\n";
  } else if (value.items.empty()) {
    out += " {}\n";
  } else {
    out += "\n";
    value.kind == YamlValue::Kind::Map ? write_map(out, value, indent, false) : write_list(out, value, indent);
  }
}

}  // namespace

std::string write_yaml(const YamlValue& value) {
  std::string out;
  if (value.kind == YamlValue::Kind::Map && !value.items.empty())
    write_map(out, value, 0, false);
  else
    write(out, value, 0);
  return out;
}

}  // namespace mblm
