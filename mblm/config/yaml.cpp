#include "mblm/config/yaml.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "engine/error.h"

namespace mblm {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::size_t digits_from(std::string_view text, std::size_t at) {
  if (at == text.size() || !is_digit(text[at])) return 0;
  std::size_t end = at;
  while (end < text.size() && (is_digit(text[end]) || text[end] == '_')) ++end;
  return end - at;
}

std::size_t sign_length(std::string_view text) { return !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0; }

// [-+]? (digits [. digits?]? | . digits) ([eE] [-+]? digits)?
bool is_number_text(std::string_view text) {
  std::size_t at = sign_length(text);
  const std::size_t whole = digits_from(text, at);
  at += whole;
  std::size_t fraction = 0;
  if (at < text.size() && text[at] == '.') {
    fraction = digits_from(text, at + 1);
    at += 1 + fraction;
  }
  if (whole + fraction == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    at += 1 + sign_length(text.substr(at + 1));
    const std::size_t exponent = digits_from(text, at);
    if (exponent == 0) return false;
    at += exponent;
  }
  return at == text.size();
}

// Removes what std::from_chars does not accept: `_` and a leading plus.
std::string bare_number(std::string_view text) {
  std::string bare(text.substr(!text.empty() && text[0] == '+' ? 1 : 0));
  std::erase(bare, '_');
  return bare;
}

template <class T>
std::optional<T> converted(std::string_view text) {
  const std::string bare = bare_number(text);
  T value{};
  const auto [end, error] = std::from_chars(bare.data(), bare.data() + bare.size(), value);
  if (error != std::errc() || end != bare.data() + bare.size()) return std::nullopt;
  return value;
}

YamlValue plain_scalar(std::string text) {
  YamlValue value;
  value.kind = YamlValue::Kind::Scalar;
  value.text = std::move(text);
  value.plain = true;
  return value;
}

}  // namespace

const YamlValue* YamlValue::find(std::string_view key) const {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return kind != Kind::Map || found == keys.end() ? nullptr : &items[static_cast<std::size_t>(found - keys.begin())];
}

YamlValue* YamlValue::find(std::string_view key) { return const_cast<YamlValue*>(static_cast<const YamlValue&>(*this).find(key)); }

YamlValue& YamlValue::add(std::string key, YamlValue value) {
  kind = Kind::Map;
  keys.push_back(std::move(key));
  items.push_back(std::move(value));
  return items.back();
}

bool has_leading_zero(const YamlValue& value) {
  if (value.kind != YamlValue::Kind::Scalar || !value.plain) return false;
  const std::size_t sign = sign_length(value.text), digits = digits_from(value.text, sign);
  return digits > 1 && sign + digits == value.text.size() && value.text[sign] == '0';
}

bool is_integer(const YamlValue& value) {
  if (value.kind != YamlValue::Kind::Scalar || !value.plain) return false;
  const std::size_t sign = sign_length(value.text), digits = digits_from(value.text, sign);
  return digits > 0 && sign + digits == value.text.size() && !has_leading_zero(value);
}

std::optional<std::int64_t> to_integer(const YamlValue& value) {
  if (is_integer(value)) return converted<std::int64_t>(value.text);
  const bool has_point = value.text.find_first_of(".eE") != std::string::npos;
  const std::optional<double> number = has_point ? to_number(value) : std::nullopt;
  constexpr double bound = 0x1p63;
  if (!number || *number != std::floor(*number) || !(std::abs(*number) < bound)) return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

std::optional<double> to_number(const YamlValue& value) {
  const bool number = value.kind == YamlValue::Kind::Scalar && value.plain && is_number_text(value.text);
  return number ? converted<double>(value.text) : std::nullopt;
}

std::optional<bool> to_bool(const YamlValue& value) {
  if (value.kind != YamlValue::Kind::Scalar || !value.plain) return std::nullopt;
  for (const auto& text : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
    if (value.text == text) return true;
  for (const auto& text : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
    if (value.text == text) return false;
  return std::nullopt;
}

YamlValue yaml_of(std::int64_t value) { return plain_scalar(std::to_string(value)); }

// Writes the shortest text that reads back as the same bits, with a point: in YAML 1.1, 1e-05 is text and 1.0e-05 a number.
YamlValue yaml_of(double value) {
  std::array<char, 32> buffer;
  std::string text(buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr);
  if (text.find('.') == std::string::npos) text.insert(std::min(text.find('e'), text.size()), ".0");
  return plain_scalar(text);
}

YamlValue yaml_of(bool value) { return plain_scalar(value ? "true" : "false"); }

YamlValue yaml_of(const std::string& value) {
  YamlValue text = plain_scalar(value);
  text.plain = false;
  return text;
}

std::string in_quotes(std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (byte < 0x20 || byte == 0x7f)
      out += std::string("\\u00") + hex[byte >> 4] + hex[byte & 15];
    else
      out += c;
  }
  return out + '"';
}

std::string shown(const YamlValue& value) {
  constexpr std::size_t longest = 60;
  switch (value.kind) {
    case YamlValue::Kind::Null:
      return "null";
    case YamlValue::Kind::List:
      return "a list of " + std::to_string(value.items.size());
    case YamlValue::Kind::Map:
      return "a map";
    case YamlValue::Kind::Scalar:
      break;
  }
  std::string text = value.text;
  if (text.size() > longest) {
    std::size_t cut = longest;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;  // cut between UTF-8 characters
    text = text.substr(0, cut) + "...";
  }
  const bool means_something = is_integer(value) || to_number(value) || to_bool(value);
  return means_something ? text : in_quotes(text);
}

}  // namespace mblm
