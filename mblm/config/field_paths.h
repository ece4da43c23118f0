// The dotted paths of all config fields, to suggest the right one for a misplaced or misspelt name.
#pragma once

#include <string>
#include <vector>

namespace mblm {

// `train.learning_rate`, `params.hidden_dims`, `params.block.d_state`, ...: all fields of the built-in sections and blocks.
const std::vector<std::string>& field_paths();

// The path of the field that `name` (a field's name, or a path with a typing error) probably means: train.learning_rate for
// learning_rate, lerning_rate or trian.learning_rate. Empty if none is similar.
std::string path_of_field(const std::string& name);

}  // namespace mblm
