// `FIELD=VALUE` of the command line, put into a config's tree.
#pragma once

#include <string>

#include "mblm/config/yaml.h"

namespace mblm {

// Replaces or adds the field that a dotted path names, `train.batch_size=8`, `params.block[0].d_state=16`; VALUE is YAML.
// Throws ConfigError, `command line: ...`, for a malformed path and for one that leads through something else than a map.
void apply_override(YamlValue& root, const std::string& override);

}  // namespace mblm
