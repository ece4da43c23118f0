#include "mblm/config/block_choice.h"

#include <algorithm>

#include "mblm/config/field_rules.h"

namespace mblm {
namespace {

// How a type's fields differ from those of a map.
struct Fit {
  std::string type;
  std::vector<std::string> known, unknown, missing;
  bool fits() const { return unknown.empty() && missing.empty(); }
  std::size_t distance() const { return unknown.size() + missing.size(); }
};

Fit fit_of(const YamlValue& block, const std::string& type, const BlockRegistry& registry) {
  FieldNames names;
  registry.make(type)->fields(names);
  Fit fit{type, names.accepted(), {}, {}};
  for (const std::string& key : block.keys)
    if (key != "block_type" && names.find(key) == nullptr) fit.unknown.push_back(key);
  for (const FieldNames::Name& name : names.all())
    if (name.required && block.find(name.name) == nullptr) fit.missing.push_back(name.name);
  return fit;
}

[[noreturn]] void fail_without_fit(const FieldReader& block, const std::vector<Fit>& fits, const std::vector<std::string>& types) {
  const auto closest = std::min_element(fits.begin(), fits.end(), [](const Fit& a, const Fit& b) { return a.distance() < b.distance(); });
  if (closest == fits.end() || closest->unknown.size() == block.section().keys.size())
    block.fail("", "expected a block_type (" + joined(types, " or ") + "), or all fields of one");
  if (closest->unknown.empty())
    block.fail(closest->missing.front(), "expected it for a " + closest->type + ", the closest block type, the field is missing");
  std::vector<std::string> names = closest->known;
  names.push_back("block_type");
  const std::string& unknown = closest->unknown.front();
  block.fail(unknown, "no such field in a " + closest->type + ", the closest block type" + suggestion(unknown, names));
}

std::string named_type(const FieldReader& block, const YamlValue& type, const BlockRegistry& registry, const std::vector<std::string>& types) {
  if (type.kind == YamlValue::Kind::Scalar && registry.has(type.text)) return type.text;
  block.fail("block_type", "expected " + joined(types, " or ") + ", got " + shown(type));
}

}  // namespace

std::string choose_block_type(const FieldReader& block, const BlockRegistry& registry, bool encoder) {
  const std::vector<std::string> types = registry.types(encoder);
  if (const YamlValue* type = block.section().find("block_type"); type != nullptr && type->kind != YamlValue::Kind::Null)
    return named_type(block, *type, registry, types);
  std::vector<Fit> fits;
  std::vector<std::string> chosen;
  for (const std::string& type : types) {
    if (!registry.chosen_by_fields(type)) continue;
    fits.push_back(fit_of(block.section(), type, registry));
    if (fits.back().fits()) chosen.push_back(type);
  }
  if (chosen.empty()) fail_without_fit(block, fits, types);
  if (chosen.size() > 1) block.fail("", "expected a block_type, the fields fit " + joined(chosen, " and "));
  return chosen.front();
}

}  // namespace mblm
