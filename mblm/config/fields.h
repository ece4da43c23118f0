// One declaration per config field serves reading, checking and writing.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/error.h"

namespace mblm {

enum class PositionKind { None, Fixed, Rope };  // pos_emb_type: null, fixed, rope

// Bounds of a number, or of each number in a list. A bound belongs to the range unless it is open.
struct Range {
  double minimum = -std::numeric_limits<double>::infinity(), maximum = std::numeric_limits<double>::infinity();
  bool open_minimum = false, open_maximum = false;
};
inline constexpr Range positive{.minimum = 1};  // for integers
inline constexpr Range not_negative{.minimum = 0};
inline constexpr Range above_zero{.minimum = 0, .open_minimum = true};
inline constexpr Range probability{.minimum = 0, .maximum = 1, .open_maximum = true};
inline constexpr Range share{.minimum = 0, .maximum = 1};

using YamlText = std::shared_ptr<const std::string>;  // a map as YAML text, for other code to read; null if not given

// A field's declaration. Without a value: other code reads the field.
struct Field {
  using Value = std::variant<std::monostate, std::int64_t*, double*, bool*, std::string*, PositionKind*, YamlText*, std::vector<std::int64_t>*,
                             std::vector<double>*, std::optional<std::int64_t>*, std::optional<double>*, std::optional<bool>*,
                             std::optional<std::string>*, std::optional<std::vector<std::int64_t>>*, std::optional<std::vector<double>>*>;
  const char* name;
  bool required = false;
  Value value;
  Range range{};
  std::vector<std::string> choices{};  // values of a string; empty: any
  const char* refusal = nullptr;       // set: only null is accepted, and this is the error
  const char* expectation = "a value";  // description of a value that other code reads
};

// A section of a config (a YAML map) that is read, checked or written. Reading throws a ConfigError with a line
// `FILE:LINE: SECTION.FIELD: expected ..., got ...` for each missing required field, unknown field, wrong type and value out of range.
class Fields {
 public:
  virtual ~Fields() = default;

  template <class T>
  void required(const char* name, T& value, Range range = {}) {
    visit({name, true, &value, range});
  }
  template <class T>
  void optional(const char* name, T& value, Range range = {}) {
    visit({name, false, &value, range});
  }
  // A std::string or std::optional<std::string> with a fixed set of values.
  template <class T>
  void choice(const char* name, T& value, std::vector<std::string> values, bool is_required = false) {
    visit({name, is_required, &value, {}, std::move(values)});
  }
  // A field that other code reads and writes. `expectation` describes its value in errors.
  void external(const char* name, bool is_required, const char* expectation) { visit({name, is_required, {}, {}, {}, nullptr, expectation}); }
  // A field that must be null or absent here. `why` is the error for any other value.
  void refuse(const char* name, const char* why) { visit({name, false, {}, {}, {}, why}); }

  // Throws a ConfigError for a field (`name`), an entry of a list (`name[1]`) or the section (empty `name`), for checks that need
  // more than one field.
  [[noreturn]] void fail(const std::string& name, const std::string& message) const { throw ConfigError(location_of(name) + ": " + message); }
  // The same, but returns where errors are collected, to report all of them.
  virtual void report(const std::string& name, const std::string& message) const { fail(name, message); }

 protected:
  // Returns `FILE:LINE: SECTION.NAME`, without unknown parts.
  virtual std::string location_of(const std::string& name) const = 0;
  virtual void visit(const Field& field) = 0;
};

// Reads the fields that `declare` declares from YAML text. Other fields are errors, `ORIGIN: SECTION.FIELD: ...`. `declare` is
// called more than once and must only declare.
void read_fields(const std::string& yaml, const std::string& origin, const std::string& section, const std::function<void(Fields&)>& declare);

}  // namespace mblm
