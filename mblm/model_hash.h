// The identity of a model, for files that are of use with that model only.
#pragma once

#include <string>

#include "mblm/model.h"

namespace mblm {

// The hash (engine/io/hash.h) of the model's config and of its parameters and stored constants: names, shapes, element types and
// values. It does not depend on the device, the precision or the file that the model came from. Waits for the device.
std::string model_hash(const Model& model);  // 32 hexadecimal digits

}  // namespace mblm
