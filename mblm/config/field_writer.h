// Fields written as a YAML map, each with its present value.
#pragma once

#include <string>

#include "mblm/config/fields.h"
#include "mblm/config/yaml.h"

namespace mblm {

class FieldWriter final : public Fields {
 public:
  YamlValue take() { return std::move(section_); }

 private:
  std::string place_of(const std::string& name) const override { return name; }
  void visit(const Field& field) override;
  YamlValue section_;
};

}  // namespace mblm
