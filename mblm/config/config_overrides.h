// Applies `FIELD=VALUE` arguments of the command line to a config's YAML tree.
#pragma once

#include <string>

#include "mblm/config/yaml.h"

namespace mblm {

// Replaces or adds the field of a dotted path: `train.batch_size=8`, `params.block[0].d_state=16`. A field that is text takes VALUE literally,
// except `null` or no text if the field may be null, and a VALUE in quotes. Other fields read VALUE as YAML. Throws ConfigError, `command line:
// ...`, for a malformed path or one that passes through a value that is not a map or a list.
void apply_override(YamlValue& root, const std::string& override);

}  // namespace mblm
