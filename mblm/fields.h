// One declaration per config field serves reading, checking and writing YAML.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/error.h"

namespace mblm {

enum class PositionKind;

// Bounds of a number, both included unless `exclusive_maximum`.
struct Range {
  double minimum = -1e308, maximum = 1e308;
  bool exclusive_maximum = false;
};
inline constexpr Range positive{1};               // an integer of at least one
inline constexpr Range not_negative{0};
inline constexpr Range probability{0, 1, true};   // [0, 1)

// A section of a config (a YAML map) while it is read or written. Each call declares one field. Reading: a missing required
// field, a wrong type or a value out of range is a ConfigError `FILE:LINE: SECTION.FIELD: expected ..., got ...`; a field
// that no call named is an error in finish(). Writing: every declared field is written with its present value.
class Fields {
 public:
  virtual ~Fields() = default;

  // Field types: std::int64_t, double, bool, std::string, PositionKind, std::vector<std::int64_t>, std::vector<double>,
  // std::vector<std::int64_t> that may be a single number, and std::optional of these (null).
  template <class T> void required(const char* name, T& value, Range range = {}) { field(name, true, &value, range); }
  template <class T> void optional(const char* name, T& value, Range range = {}) { field(name, false, &value, range); }
  // A string field with a fixed set of values.
  virtual void choice(const char* name, std::string& value, const std::vector<std::string>& values, bool is_required) = 0;

  // True while reading; false while writing.
  virtual bool reading() const = 0;
  // Throws the ConfigError for a field of this section: checks that need more than one field.
  [[noreturn]] virtual void fail(const std::string& name, const std::string& message) const = 0;

 protected:
  virtual void field(const char* name, bool required, std::int64_t* value, Range range) = 0;
  virtual void field(const char* name, bool required, double* value, Range range) = 0;
  virtual void field(const char* name, bool required, bool* value, Range range) = 0;
  virtual void field(const char* name, bool required, std::string* value, Range range) = 0;
  virtual void field(const char* name, bool required, PositionKind* value, Range range) = 0;
  virtual void field(const char* name, bool required, std::vector<std::int64_t>* value, Range range) = 0;
  virtual void field(const char* name, bool required, std::vector<double>* value, Range range) = 0;
  virtual void field(const char* name, bool required, std::optional<std::int64_t>* value, Range range) = 0;
  virtual void field(const char* name, bool required, std::optional<double>* value, Range range) = 0;
  virtual void field(const char* name, bool required, std::optional<std::string>* value, Range range) = 0;
  virtual void field(const char* name, bool required, std::optional<std::vector<std::int64_t>>* value, Range range) = 0;
};

}  // namespace mblm
