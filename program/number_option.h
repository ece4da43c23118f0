// Numbers on the command line: decimal, checked against their range.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/error.h"

namespace mblm {

// The allowed values: [minimum, maximum], or (minimum, maximum] if `above_minimum`.
template <class T>
struct NumberRange {
  T minimum{}, maximum = std::numeric_limits<T>::max();
  bool above_minimum = false;
};

// "an integer of at least 0", "an integer from 1 to 4096", "a number above 0, up to 1"
template <class T>
std::string words_of(const NumberRange<T>& range) {
  const std::string kind = std::is_integral_v<T> ? "an integer" : "a number", minimum = concat_text(range.minimum);
  const bool has_maximum = range.maximum != std::numeric_limits<T>::max() || std::is_unsigned_v<T>;
  if (!has_maximum) return kind + (range.above_minimum ? " above " : " of at least ") + minimum;
  const std::string maximum = concat_text(range.maximum);
  return range.above_minimum ? kind + " above " + minimum + ", up to " + maximum : kind + " from " + minimum + " to " + maximum;
}

// Reads a whole text as a decimal number: 10, 010 (ten), -3, +0.5, 1e-3 (no integer). Returns nothing for other text, for a number
// beyond T and for one outside the range.
template <class T>
std::optional<T> parse_number(const std::string& text, const NumberRange<T>& range) {
  const bool has_plus = text.size() > 1 && text[0] == '+' && text[1] != '-';
  const char *first = text.data() + (has_plus ? 1 : 0), *last = text.data() + text.size();
  T value{};
  const auto [end, error] = std::from_chars(first, last, value);
  if (error != std::errc() || end != last) return {};
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(value)) return {};
  const bool above = range.above_minimum ? value > range.minimum : value >= range.minimum;
  return above && value <= range.maximum ? std::optional(value) : std::nullopt;
}

template <class T>
T read_number(const std::string& name, const std::string& text, const NumberRange<T>& range) {
  const std::optional<T> value = parse_number(text, range);
  if (!value) throw CLI::ValidationError(name, concat_text("expected ", words_of(range), ", got ", text.empty() ? "nothing" : text));
  return *value;
}

// Adds an option for a number. The help shows the value that it has now as the default.
template <class T>
  requires std::is_arithmetic_v<T>
CLI::Option* add_number(CLI::App& app, const std::string& name, T& to, const std::string& help, std::type_identity_t<NumberRange<T>> range = {}) {
  const CLI::callback_t read = [&to, name, range](const CLI::results_t& texts) {
    to = read_number(name, texts.back(), range);
    return true;
  };
  return app.add_option(name, read, help)->default_str(concat_text(to));
}
// The same for an option without a default.
template <class T>
CLI::Option* add_number(CLI::App& app, const std::string& name, std::optional<T>& to, const std::string& help, std::type_identity_t<NumberRange<T>> range = {}) {
  const CLI::callback_t read = [&to, name, range](const CLI::results_t& texts) {
    to = read_number(name, texts.back(), range);
    return true;
  };
  return app.add_option(name, read, help);
}
// An option that may be repeated.
template <class T>
CLI::Option* add_numbers(CLI::App& app, const std::string& name, std::vector<T>& to, const std::string& help, std::type_identity_t<NumberRange<T>> range = {}) {
  const CLI::callback_t read = [&to, name, range](const CLI::results_t& texts) {
    for (const std::string& text : texts) to.push_back(read_number(name, text, range));
    return true;
  };
  return app.add_option(name, read, help)->take_all()->expected(1);
}

}  // namespace mblm
