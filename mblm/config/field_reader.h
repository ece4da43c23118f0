// Reads fields from a YAML map.
#pragma once

#include <string>
#include <vector>

#include "mblm/config/fields.h"
#include "mblm/config/problems.h"
#include "mblm/config/yaml.h"

namespace mblm {

// Collects declarations without touching values.
class FieldNames final : public Fields {
 public:
  struct Name {
    std::string name;
    bool required;
    const char* refusal;
  };
  const std::vector<Name>& all() const { return all_; }
  std::vector<std::string> accepted() const;  // names that a config may contain
  const Name* find(const std::string& name) const;

 private:
  std::string location_of(const std::string& name) const override { return name; }
  void visit(const Field& field) override { all_.push_back({field.name, field.required, field.refusal}); }
  std::vector<Name> all_;
};

// Reads one map of a file. Refers to the tree and to the problems, which must outlive the reader.
class FieldReader final : public Fields {
 public:
  // `path` is the section's dotted path, empty for the whole file. Throws ConfigError if the section is not a map.
  FieldReader(const YamlValue& section, std::string origin, std::string path, Problems& problems);

  // Reads the fields that `declare` declares. Adds all errors to the problems. A misspelt field is unknown and not also missing.
  void read(const std::function<void(Fields&)>& declare);
  // Adds an error for each field that `declare` does not declare; `where` follows `no such field`.
  void check_names(const std::function<void(Fields&)>& declare, const std::string& where = {});
  // Reads the fields without a check of the names. With MayBeMissing, required fields may be missing.
  enum class Missing { IsError, MayBeMissing };
  void read_values(const std::function<void(Fields&)>& declare, Missing missing);
  // Adds an error.
  void report(const std::string& name, const std::string& message) const override { problems_->add(location_of(name) + ": " + message); }

  const YamlValue& section() const { return *section_; }
  Problems& problems() const { return *problems_; }
  // Whether an unknown key of the section is probably a misspelt `name`.
  bool is_misspelt(const std::string& name) const;
  // A reader of the map in a field. Throws if the field is not a map.
  FieldReader inner(const std::string& name) const;
  std::string path_of(const std::string& name) const;
  const std::string& origin() const { return origin_; }

 private:
  std::string location_of(const std::string& name) const override;
  void visit(const Field& field) override;
  int line_of(const std::string& name) const;

  const YamlValue* section_;
  std::string origin_, path_;
  Problems* problems_;
  std::vector<std::string> misspelt_ = {};  // fields that unknown keys probably mean
  Missing missing_ = Missing::IsError;
};

inline constexpr int command_line = -1;  // line of a value from the command line

// Returns `ORIGIN:LINE`, `ORIGIN` if the line is unknown, or `command line`.
std::string location_text(const std::string& origin, int line);

}  // namespace mblm
