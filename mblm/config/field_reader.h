// Reads fields from a YAML map.
#pragma once

#include <string>
#include <vector>

#include "mblm/config/fields.h"
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

// Reads one map of a file. Refers to the tree, which must outlive the reader.
class FieldReader final : public Fields {
 public:
  // `path` is the section's dotted path, empty for the whole file.
  FieldReader(const YamlValue& section, std::string origin, std::string path);

  // Reads the fields that `declare` declares. Checks the names first, to report a misspelt field as unknown and not as missing.
  void read(const std::function<void(Fields&)>& declare);

  const YamlValue& section() const { return *section_; }
  // A reader of the map in a field. Throws if the field is not a map.
  FieldReader inner(const std::string& name) const;
  std::string path_of(const std::string& name) const;
  const std::string& origin() const { return origin_; }

 private:
  std::string location_of(const std::string& name) const override;
  void visit(const Field& field) override;
  void check_names(const FieldNames& names) const;
  int line_of(const std::string& name) const;

  const YamlValue* section_;
  std::string origin_, path_;
};

inline constexpr int command_line = -1;  // line of a value from the command line

// Returns `ORIGIN:LINE`, `ORIGIN` if the line is unknown, or `command line`.
std::string location_text(const std::string& origin, int line);

}  // namespace mblm
