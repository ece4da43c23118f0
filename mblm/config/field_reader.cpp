#include "mblm/config/field_reader.h"

#include <algorithm>
#include <charconv>
#include <type_traits>
#include <utility>

#include "mblm/config/field_paths.h"
#include "mblm/config/field_rules.h"

namespace mblm {
namespace {

// Converts YAML values to the types of fields.
struct Conversion {
  const Field& field;
  const Fields& section;

  [[noreturn]] void mismatch(const std::string& name, const std::string& expectation, const YamlValue& value) const {
    section.fail(name, "expected " + expectation + ", got " + shown(value));
  }

  template <class T>
  T accepted(const std::optional<T>& result, const std::string& name, const YamlValue& value) const {
    if (!result) mismatch(name, expectation_of(field, name), value);
    return *result;
  }

  void convert(const YamlValue& value, const std::string& name, std::int64_t& to) const {
    const std::optional<std::int64_t> number = to_integer(value);
    if (!number && is_integer(value)) mismatch(name, "a 64-bit integer", value);
    if (!number && has_leading_zero(value)) mismatch(name, expectation_of(field, name) + " without leading zeros", value);
    to = accepted(number, name, value);
  }
  void convert(const YamlValue& value, const std::string& name, double& to) const { to = accepted(to_number(value), name, value); }
  void convert(const YamlValue& value, const std::string& name, bool& to) const { to = accepted(to_bool(value), name, value); }
  void convert(const YamlValue& value, const std::string& name, std::string& to) const {
    if (value.literal) {
      to = *value.literal;
      return;
    }
    if (value.kind != YamlValue::Kind::Scalar) mismatch(name, expectation_of(field, name), value);
    if (value.text.find('\0') != std::string::npos) mismatch(name, "text without a zero byte, which would end a path", value);
    to = value.text;
  }
  void convert(const YamlValue& value, const std::string& name, PositionKind& to) const {
    const bool null = value.kind == YamlValue::Kind::Null, scalar = value.kind == YamlValue::Kind::Scalar;
    if (!null && !(scalar && (value.text == "fixed" || value.text == "rope"))) mismatch(name, expectation_of(field, name), value);
    to = null ? PositionKind::None : value.text == "fixed" ? PositionKind::Fixed : PositionKind::Rope;
  }
  void convert(const YamlValue& value, const std::string& name, YamlText& to) const {
    const bool null = value.kind == YamlValue::Kind::Null;
    if (!null && value.kind != YamlValue::Kind::Map) mismatch(name, expectation_of(field, name), value);
    to = null ? nullptr : std::make_shared<const std::string>(write_yaml(value));
  }
  template <class T>
  void convert(const YamlValue& value, const std::string& name, std::vector<T>& to) const {
    if (value.kind != YamlValue::Kind::List) mismatch(name, expectation_of(field, name), value);
    to.resize(value.items.size());
    for (std::size_t i = 0; i < to.size(); ++i) convert(value.items[i], concat_text(name, "[", i, "]"), to[i]);
  }
  template <class T>
  void convert(const YamlValue& value, const std::string& name, std::optional<T>& to) const {
    to.reset();
    const bool is_literal_text = std::is_same_v<T, std::string> && value.literal && !value.literal->empty() && *value.literal != "null";
    if (value.kind != YamlValue::Kind::Null || is_literal_text) convert(value, name, to.emplace());
  }
};

// False for a name that is too long or too odd for an error message of one line.
bool is_ordinary(const std::string& name) {
  constexpr std::size_t longest = 60;
  return name.size() <= longest && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; });
}

// The last name of a section's path: block for params.block[0].
std::string section_name(const std::string& path) {
  const std::string last = path.substr(path.rfind('.') + 1);
  return last.substr(0, last.find('['));
}

}  // namespace

std::vector<std::string> FieldNames::accepted() const {
  std::vector<std::string> names;
  for (const Name& name : all_)
    if (name.refusal == nullptr) names.push_back(name.name);
  return names;
}

const FieldNames::Name* FieldNames::find(const std::string& name) const {
  const auto found = std::find_if(all_.begin(), all_.end(), [&](const Name& known) { return known.name == name; });
  return found == all_.end() ? nullptr : &*found;
}

FieldReader::FieldReader(const YamlValue& section, std::string origin, std::string path, Problems& problems)
    : section_(&section), origin_(std::move(origin)), path_(std::move(path)), problems_(&problems) {
  if (section.kind != YamlValue::Kind::Map) fail("", "expected a map, got " + shown(section));
}

void FieldReader::read(const std::function<void(Fields&)>& declare) {
  check_names(declare);
  read_values(declare, Missing::IsError);
}

void FieldReader::check_names(const std::function<void(Fields&)>& declare, const std::string& where) {
  FieldNames names;
  declare(names);
  const std::vector<std::string> accepted = names.accepted();
  for (std::size_t i = 0; i < section_->keys.size(); ++i) {
    const std::string& key = section_->keys[i];
    const FieldNames::Name* known = names.find(key);
    if (known == nullptr) {
      std::string elsewhere = path_of_field(key);
      if (section_name(elsewhere.substr(0, elsewhere.rfind('.'))) == section_name(path_)) elsewhere.clear();
      const std::string closest = closest_name(key, accepted);
      if (!closest.empty()) misspelt_.push_back(closest);
      const bool is_elsewhere = elsewhere.ends_with("." + key);
      const std::string& meant = is_elsewhere || closest.empty() ? elsewhere : closest;
      report(key, "no such field" + where + (meant.empty() ? "" : ", did you mean " + meant + "?"));
    } else if (known->refusal != nullptr && section_->items[i].kind != YamlValue::Kind::Null) {
      report(key, known->refusal);
    }
  }
}

void FieldReader::read_values(const std::function<void(Fields&)>& declare, Missing missing) {
  missing_ = missing;
  declare(*this);
}

bool FieldReader::is_misspelt(const std::string& name) const { return std::find(misspelt_.begin(), misspelt_.end(), name) != misspelt_.end(); }

void FieldReader::visit(const Field& field) {
  const YamlValue* value = section_->find(field.name);
  if (value == nullptr) {
    if (field.required && missing_ == Missing::IsError && !is_misspelt(field.name))
      report(field.name, "expected " + expectation_of(field) + ", the field is missing");
    return;
  }
  problems_->attempt([&] {
    std::visit(
        [&](auto to) {
          if constexpr (std::is_pointer_v<decltype(to)>) Conversion{field, *this}.convert(*value, field.name, *to);
        },
        field.value);
    check_value(field, *this);
  });
}

FieldReader FieldReader::inner(const std::string& name) const {
  const YamlValue* value = section_->find(name);
  if (value == nullptr) fail(name, "expected a map, the field is missing");
  return FieldReader(*value, origin_, path_of(name), *problems_);
}

std::string FieldReader::path_of(const std::string& name) const {
  const std::string key = is_ordinary(name) ? name : shown(yaml_of(name));
  if (path_.empty() || name.empty()) return path_ + key;
  return path_ + "." + key;
}

int FieldReader::line_of(const std::string& name) const {
  if (const YamlValue* value = section_->find(name)) return value->line;
  const std::size_t bracket = name.find('[');
  const YamlValue* value = section_->find(name.substr(0, bracket));
  if (value == nullptr) return section_->line;
  std::size_t index = value->items.size();
  if (bracket != std::string::npos) std::from_chars(name.data() + bracket + 1, name.data() + name.size(), index);
  return value->kind == YamlValue::Kind::List && index < value->items.size() ? value->items[index].line : value->line;
}

std::string FieldReader::location_of(const std::string& name) const {
  const std::string path = path_of(name);
  return location_text(origin_, line_of(name)) + (path.empty() ? "" : ": " + path);
}

std::string location_text(const std::string& origin, int line) {
  if (line == command_line) return "command line";
  return line > 0 ? origin + ":" + std::to_string(line) : origin;
}

void read_fields(const std::string& yaml, const std::string& origin, const std::string& section, const std::function<void(Fields&)>& declare) {
  YamlValue root = parse_yaml(yaml, origin, false);
  if (root.kind == YamlValue::Kind::Null) root.kind = YamlValue::Kind::Map;
  Problems problems;
  FieldReader(root, origin, section, problems).read(declare);
  problems.throw_if_any();
}

}  // namespace mblm
