// Which block a map of YAML means.
#pragma once

#include <string>

#include "mblm/config/block_config.h"
#include "mblm/config/field_reader.h"

namespace mblm {

// The `block_type` when it is given, else the one registered type, of an encoder or of another block as `encoder` says, whose
// required fields are all there and that has all the fields given. Throws ConfigError when no type fits, or several.
std::string choose_block_type(const FieldReader& block, const BlockRegistry& registry, bool encoder);

}  // namespace mblm
