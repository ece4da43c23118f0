#include "mblm/config/field_rules.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <utility>

#include "mblm/config/yaml.h"

namespace mblm {
namespace {

std::string bound_text(double bound) { return bound == std::floor(bound) ? concat_text(static_cast<std::int64_t>(bound)) : concat_text(bound); }

std::string range_words(const Range& range) {
  const bool below = std::isfinite(range.minimum), above = std::isfinite(range.maximum);
  const std::string minimum = below ? bound_text(range.minimum) : "", maximum = above ? bound_text(range.maximum) : "";
  if (below && above) return concat_text(" in ", range.open_minimum ? "(" : "[", minimum, ", ", maximum, range.open_maximum ? ")" : "]");
  if (below) return (range.open_minimum ? " above " : " of at least ") + minimum;
  if (above) return (range.open_maximum ? " below " : " of at most ") + maximum;
  return "";
}

bool contains(const Range& range, double value) {
  const bool above = range.open_minimum ? value > range.minimum : value >= range.minimum;
  const bool below = range.open_maximum ? value < range.maximum : value <= range.maximum;
  return above && below && std::isfinite(value);
}

template <class T>
struct EntryOf {
  using Type = T;
};
template <class T>
struct EntryOf<std::optional<T>> : EntryOf<T> {};
template <class T>
struct EntryOf<std::vector<T>> : EntryOf<T> {};

// Describes a value of type T, or with `plural` the entries of a list.
std::string words(const Field& field, const std::int64_t*, bool plural) { return (plural ? "integers" : "an integer") + range_words(field.range); }
std::string words(const Field& field, const double*, bool plural) { return (plural ? "numbers" : "a number") + range_words(field.range); }
std::string words(const Field&, const bool*, bool) { return "true or false"; }
std::string words(const Field& field, const std::string*, bool) { return field.choices.empty() ? "text" : joined(field.choices, " or "); }
std::string words(const Field&, const PositionKind*, bool) { return "fixed, rope or null"; }
std::string words(const Field&, const YamlText*, bool) { return "a map or null"; }
std::string words(const Field& field, const std::monostate*, bool) { return field.expectation; }
template <class T>
std::string words(const Field& field, const std::vector<T>*, bool) {
  return "a list of " + words(field, static_cast<const T*>(nullptr), true);
}
std::string words(const Field&, const std::optional<bool>*, bool) { return "true, false or null"; }
template <class T>
std::string words(const Field& field, const std::optional<T>*, bool) {
  if (field.choices.empty()) return words(field, static_cast<const T*>(nullptr), false) + " or null";
  std::vector<std::string> all = field.choices;
  all.push_back("null");
  return joined(all, " or ");
}

// The value as an error shows it: 1, not 1.0.
YamlValue seen(std::int64_t value) { return yaml_of(value); }
YamlValue seen(const std::string& value) { return yaml_of(value); }
YamlValue seen(double value) {
  YamlValue yaml = yaml_of(value);
  if (yaml.text.ends_with(".0")) yaml.text.resize(yaml.text.size() - 2);
  return yaml;
}

[[noreturn]] void refuse(const Field& field, const Fields& section, const std::string& name, const YamlValue& value) {
  section.fail(name, "expected " + expectation_of(field, name) + ", got " + shown(value));
}

template <class T>
void check(const Field& field, const Fields& section, const std::string& name, const T& value) {
  if constexpr (std::is_same_v<T, std::int64_t> || std::is_same_v<T, double>) {
    if (!contains(field.range, static_cast<double>(value))) refuse(field, section, name, seen(value));
  } else if constexpr (std::is_same_v<T, std::string>) {
    const bool known = field.choices.empty() || std::find(field.choices.begin(), field.choices.end(), value) != field.choices.end();
    if (!known) refuse(field, section, name, seen(value));
  }
}
template <class T>
void check(const Field& field, const Fields& section, const std::string& name, const std::vector<T>& list) {
  for (std::size_t i = 0; i < list.size(); ++i) check(field, section, concat_text(name, "[", i, "]"), list[i]);
}
template <class T>
void check(const Field& field, const Fields& section, const std::string& name, const std::optional<T>& value) {
  if (value) check(field, section, name, *value);
}

// Levenshtein distance: the number of insertions, deletions and replacements that turn a into b.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string expectation_of(const Field& field) {
  return std::visit(
      [&](auto value) {
        using Pointer = decltype(value);
        if constexpr (std::is_pointer_v<Pointer>)
          return words(field, static_cast<const std::remove_pointer_t<Pointer>*>(nullptr), false);
        else
          return words(field, static_cast<const std::monostate*>(nullptr), false);
      },
      field.value);
}

std::string expectation_of(const Field& field, const std::string& name) {
  if (name == field.name) return expectation_of(field);
  return std::visit(
      [&](auto value) {
        using Pointer = decltype(value);
        if constexpr (std::is_pointer_v<Pointer>)
          return words(field, static_cast<const typename EntryOf<std::remove_pointer_t<Pointer>>::Type*>(nullptr), false);
        else
          return std::string("a value");
      },
      field.value);
}

void check_value(const Field& field, const Fields& section) {
  std::visit(
      [&](auto value) {
        if constexpr (std::is_pointer_v<decltype(value)>) check(field, section, field.name, *value);
      },
      field.value);
}

std::string closest_name(const std::string& name, const std::vector<std::string>& names) {
  constexpr std::size_t longest = 64;  // no field is longer; the distance costs the product of the lengths
  if (name.size() > longest) return "";
  std::string closest;
  std::size_t bound = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : names) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < std::min(bound, std::max(name.size(), candidate.size()) / 2 + 1)) {
      bound = distance;
      closest = candidate;
    }
  }
  return closest;
}

std::string suggestion(const std::string& name, const std::vector<std::string>& names) {
  const std::string closest = closest_name(name, names);
  return closest.empty() ? "" : ", did you mean " + closest + "?";
}

std::string joined(const std::vector<std::string>& words, const std::string& last_separator) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) text += (i == 0 ? "" : i + 1 == words.size() ? last_separator : ", ") + words[i];
  return text;
}

}  // namespace mblm
