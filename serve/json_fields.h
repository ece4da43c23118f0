// Reads the fields of a JSON object with checks. Errors name the field.
#pragma once

#include <concepts>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "serve/completion_request.h"

namespace mblm {

[[noreturn]] inline void refuse_field(const std::string& field, const std::string& message) {
  throw RequestError(400, "invalid_request_error", field + ": " + message, field);
}

// A value in a message, shortened.
inline std::string shown(const nlohmann::json& value) {
  constexpr std::size_t longest = 60;
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  const std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return text.size() <= longest ? text : text.substr(0, longest) + "...";
}

// Fields that are null count as missing, as in OpenAI's API.
class JsonFields {
 public:
  explicit JsonFields(const nlohmann::json& object, std::string prefix = {}) : object_(object), prefix_(std::move(prefix)) {}

  const nlohmann::json* find(const std::string& field) {
    known_.insert(field);
    const auto found = object_.find(field);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  std::optional<bool> boolean(const std::string& field) {
    const nlohmann::json* value = find(field);
    if (!value) return {};
    if (!value->is_boolean()) refuse_field(prefix_ + field, "expected true or false, got " + shown(*value));
    return value->get<bool>();
  }

  // An integer in [low, high].
  template <std::integral T>
  std::optional<T> integer(const std::string& field, T low, T high) {
    const nlohmann::json* value = find(field);
    if (!value) return {};
    const bool in_range = value->is_number_unsigned() ? std::in_range<T>(value->get<std::uint64_t>()) && value->get<T>() >= low && value->get<T>() <= high
                          : value->is_number_integer() && std::in_range<T>(value->get<std::int64_t>()) && value->get<T>() >= low && value->get<T>() <= high;
    if (!in_range) refuse_field(prefix_ + field, concat_text("expected an integer in [", low, ", ", high, "], got ", shown(*value)));
    return value->get<T>();
  }

  // A number in [low, high].
  std::optional<double> number(const std::string& field, double low, double high) {
    const nlohmann::json* value = find(field);
    if (!value) return {};
    if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high))
      refuse_field(prefix_ + field, concat_text("expected a number in [", low, ", ", high, "], got ", shown(*value)));
    return value->get<double>();
  }

  std::optional<std::string> text(const std::string& field) {
    const nlohmann::json* value = find(field);
    if (!value) return {};
    if (!value->is_string()) refuse_field(prefix_ + field, "expected a string, got " + shown(*value));
    return value->get<std::string>();
  }

  // Throws for a field that has not been asked for.
  void refuse_others() const {
    for (const auto& [field, value] : object_.items())
      if (known_.count(field) == 0) refuse_field(prefix_ + shown_name(field), "unknown field");
  }

 private:
  static std::string shown_name(const std::string& field) {
    const std::string quoted = shown_text(field);
    return quoted.substr(1, quoted.rfind('"') - 1);
  }

  const nlohmann::json& object_;
  const std::string prefix_;
  std::set<std::string> known_;
};

}  // namespace mblm
