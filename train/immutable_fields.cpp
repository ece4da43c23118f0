#include "train/immutable_fields.h"

#include <algorithm>
#include <functional>
#include <map>
#include <span>
#include <string_view>

#include "engine/error.h"
#include "mblm/config/yaml.h"

namespace mblm {
namespace {

constexpr std::string_view free_of_train[] = {"target_elements", "max_steps", "epochs", "device", "save_state_every", "on_nonfinite", "cuda_graphs"};
constexpr std::string_view kept_of_io[] = {"dataset_id", "dataset_args", "num_models_to_save", "validate_amount"};

bool is_in(std::span<const std::string_view> names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); }

YamlValue selected(const YamlValue& section, const std::function<bool(const std::string&)>& keep) {
  YamlValue result;
  for (std::size_t i = 0; i < section.items.size(); ++i)
    if (keep(section.keys[i])) result.add(section.keys[i], section.items[i]);
  return result;
}

// Adds the scalar values by path, e.g. `params.block[0].d_state`: `16`.
void flatten(const YamlValue& value, const std::string& path, std::map<std::string, std::string>& fields) {
  if (value.kind == YamlValue::Kind::Scalar) fields[path] = value.text;
  if (value.kind == YamlValue::Kind::Null) fields[path] = "null";
  for (std::size_t i = 0; i < value.items.size(); ++i) {
    const bool is_map = value.kind == YamlValue::Kind::Map;
    flatten(value.items[i], is_map ? (path.empty() ? "" : path + ".") + value.keys[i] : concat_text(path, "[", i, "]"), fields);
  }
}

std::map<std::string, std::string> fields_of(const std::string& yaml) {
  std::map<std::string, std::string> fields;
  flatten(parse_yaml(yaml, "config"), "", fields);
  return fields;
}

bool is_kept_of_train(const std::string& name) { return !is_in(free_of_train, name); }

// The fields of a saved state without those that may change, and with the defaults of fields that it does not know yet.
std::string completed(const std::string& before) {
  YamlValue all = parse_yaml(before, "saved state");
  const YamlValue defaults = parse_yaml(to_yaml(RunConfig()), "defaults");
  YamlValue* train = all.find("train");
  require<FileError>(train != nullptr, "saved state: expected the fields of the run, there are none");
  YamlValue kept = selected(*train, is_kept_of_train);
  const YamlValue& known = *defaults.find("train");
  for (std::size_t i = 0; i < known.keys.size(); ++i)
    if (is_kept_of_train(known.keys[i]) && kept.find(known.keys[i]) == nullptr) kept.add(known.keys[i], known.items[i]);
  *train = std::move(kept);
  return write_yaml(all);
}

}  // namespace

std::string immutable_fields(const RunConfig& config, int workers) {
  const YamlValue all = parse_yaml(to_yaml(config), "config");
  YamlValue kept;
  kept.add("params", *all.find("params"));
  kept.add("train", selected(*all.find("train"), is_kept_of_train));
  kept.add("io", selected(*all.find("io"), [](const std::string& name) { return is_in(kept_of_io, name); }));
  kept.add("num_workers", yaml_of(std::int64_t{workers}));
  return write_yaml(kept);
}

std::string changed_fields(const std::string& saved, const RunConfig& config, int workers) {
  return differing_fields(completed(saved), immutable_fields(config, workers));
}

std::string differing_fields(const std::string& before, const std::string& now) {
  std::map<std::string, std::string> old_fields = fields_of(before), new_fields = fields_of(now);
  for (const auto& [path, text] : old_fields) new_fields.try_emplace(path, "none");
  std::string differing;
  for (const auto& [path, text] : new_fields) {
    const std::string& old_text = old_fields.try_emplace(path, "none").first->second;
    if (old_text != text) differing += concat_text(differing.empty() ? "" : ", ", path, " (", old_text, ", now ", text, ")");
  }
  return differing;
}

}  // namespace mblm
