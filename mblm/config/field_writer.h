// Writes fields and their values to YAML.
#pragma once

#include <functional>

#include "mblm/config/config.h"
#include "mblm/config/fields.h"
#include "mblm/config/yaml.h"

namespace mblm {

// A map of the declared fields and their values. Leaves out fields that other code writes (Fields::external).
YamlValue written_fields(const std::function<void(Fields&)>& declare);

// The maps that to_yaml writes, with every field.
YamlValue yaml_of(const ModelConfig& config);
YamlValue yaml_of(const RunConfig& config);

}  // namespace mblm
