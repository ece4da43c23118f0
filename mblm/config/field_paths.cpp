#include "mblm/config/field_paths.h"

#include <algorithm>

#include "mblm/config/config_fields.h"
#include "mblm/config/field_reader.h"
#include "mblm/config/field_rules.h"

namespace mblm {
namespace {

template <class Declare>
void add_names(std::vector<std::string>& paths, const std::string& section, const Declare& declare) {
  FieldNames names;
  declare(names);
  for (const std::string& name : names.accepted()) {
    const std::string path = section + "." + name;
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
  }
}

std::vector<std::string> all_paths() {
  RunConfig config;
  MaskingConfig masking;
  ResumeConfig resume;
  std::vector<std::string> paths{"params.input_seq_len", "params.mblm_config"};
  add_names(paths, "params", [&](Fields& f) { declare_fields(f, config.model); });
  add_names(paths, "params", [&](Fields& f) { declare_fields(f, masking); });
  const BlockRegistry blocks;
  for (const bool encoders : {false, true})
    for (const std::string& type : blocks.types(encoders)) add_names(paths, "params.block", [&](Fields& f) { visit_fields(*blocks.make(type), f); });
  add_names(paths, "train", [&](Fields& f) { declare_fields(f, config.train); });
  add_names(paths, "io", [&](Fields& f) { declare_fields(f, config.io); });
  add_names(paths, "resume", [&](Fields& f) { declare_fields(f, resume); });
  return paths;
}

std::string last_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

}  // namespace

const std::vector<std::string>& field_paths() {
  static const std::vector<std::string> paths = all_paths();
  return paths;
}

std::string path_of_field(const std::string& name) {
  const std::vector<std::string>& paths = field_paths();
  const std::string last = last_name(name);
  const auto exact = std::find_if(paths.begin(), paths.end(), [&](const std::string& path) { return last_name(path) == last; });
  if (exact != paths.end()) return *exact;
  std::vector<std::string> names;
  for (const std::string& path : paths) names.push_back(last_name(path));
  const std::string closest = closest_name(last, names);
  return closest.empty() ? "" : paths[static_cast<std::size_t>(std::find(names.begin(), names.end(), closest) - names.begin())];
}

}  // namespace mblm
